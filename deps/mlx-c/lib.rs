//! Empty: the manifest beside this file only pins sources.

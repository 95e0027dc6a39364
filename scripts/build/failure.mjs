// A failure that the user can mend: it is printed as it is, without a stack.

export class BuildFailure extends Error {}

"""Records what Jinja, set up as transformers sets it up, makes of the templates here.

Usage: python record.py (needs jinja2); writes expected.json beside itself.
"""

import json
from pathlib import Path

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_inner"), [], [], body).set_lineno(line)

    def _inner(self, caller):
        return caller()


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def raise_exception(message):
    raise TemplateError(message)


def main():
    here = Path(__file__).parent
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    contexts = json.loads((here / "contexts.json").read_text())
    expected = {}
    for path in sorted(here.glob("*.jinja")):
        template = env.from_string(path.read_text())
        expected[path.stem] = {}
        for name, context in contexts.items():
            try:
                expected[path.stem][name] = {"text": template.render(**context)}
            except TemplateError as error:
                expected[path.stem][name] = {"error": str(error)}
            except Exception as error:  # a template that cannot take this conversation
                expected[path.stem][name] = {"fails": str(error)}
    (here / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()

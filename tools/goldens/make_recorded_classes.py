#!/usr/bin/env python3
"""Records what conversion has to know of mlx-lm's model classes: lib/convert/recorded-classes.ts. Run `npm run format`
after it.

usage: make_recorded_classes.py [--goldens DIR] [--out FILE]

For each class, the children of a module in the order of its parameters, by the module's name (`*` for a member of a
list), merged over all modules of that name; lists that several classes share are written once. Then the modules, by the
last two parts of their path, whose weight is never quantized although it has two axes, those that mlx-lm keeps at eight
bits, and the parameters that it does not cast.
"""

import argparse
import graphlib
import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.utils import MODEL_REMAPPING, _get_classes

HERE = Path(__file__).resolve().parents[2]

HEADER = """\
/**
 * Made by tools/goldens/make_recorded_classes.py from mlx-lm's model classes; do not edit.
 */

/** Children of modules, in the order of their classes. */
export const LISTS: readonly (readonly string[])[] = {lists};

/** By file of mlx-lm: the name of a module (`*`: a member of a list) to its entry in `LISTS`. */
export const CLASSES: Readonly<Record<string, Readonly<Record<string, number>>>> = {classes};

/** By file of mlx-lm: modules with a matrix that is never quantized. */
export const NEVER: Readonly<Record<string, readonly string[]>> = {never};

/** By file of mlx-lm: modules that are kept at eight bits, with what config.json then says of each. */
export const AT_EIGHT_BITS: Readonly<
  Record<string, Readonly<Record<string, { readonly group_size?: number; readonly bits: number }>>>
> = {eight};

/** By file of mlx-lm: parameters that keep their type when the others are cast. */
export const NEVER_CAST: Readonly<Record<string, readonly string[]>> = {uncast};
"""


def suffix(path):
    return ".".join([part for part in path.split(".") if not part.isdigit()][-2:])


def exceptions(model, never, eight, uncast):
    casts = getattr(model, "cast_predicate", lambda _: True)
    uncast |= {suffix(name) for name, _ in tree_flatten(model.parameters()) if not casts(name)}
    predicate = getattr(model, "quant_predicate", None)
    # The reference models share their output matrix more often than the published ones.
    if predicate and isinstance(predicate("lm_head", None), dict):
        eight["lm_head"] = predicate("lm_head", None)
    for path, module in tree_flatten(model.leaf_modules(), is_leaf=nn.Module.is_module):
        if "weight" not in module or module.weight.ndim < 2:
            continue
        if not hasattr(module, "to_quantized"):
            never.add(suffix(path))
            continue
        choice = predicate(path, module) if predicate else True
        if choice is False:
            never.add(suffix(path))
        elif isinstance(choice, dict):
            assert choice in ({"group_size": 64, "bits": 8}, {"bits": 8}), choice
            eight[suffix(path)] = choice


def children(names):
    """Module path to its children in order, and of each module the name it goes by."""
    found = {}
    for name in names:
        parts = name.split(".")
        for depth in range(len(parts)):
            siblings = found.setdefault(tuple(parts[:depth]), [])
            if parts[depth] not in siblings:
                siblings.append(parts[depth])
    return found


def merged(lists):
    """One list with every order of the given ones; those that nothing orders stay as they come."""
    graph = graphlib.TopologicalSorter()
    for siblings in lists:
        for name in siblings:
            graph.add(name)
        for earlier, later in zip(siblings, siblings[1:], strict=False):
            graph.add(later, earlier)
    try:
        return list(graph.static_order())
    except graphlib.CycleError:
        # Two kinds of module under one name: the order of the first is kept.
        return list(dict.fromkeys(name for siblings in lists for name in siblings))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--goldens", type=Path, default=HERE / "test" / "goldens")
    parser.add_argument(
        "--out", type=Path, default=HERE / "lib" / "convert" / "recorded-classes.ts"
    )
    arguments = parser.parse_args()
    mx.set_default_device(mx.cpu)
    classes, never, eight, uncast = {}, {}, {}, {}
    for file in sorted(arguments.goldens.glob("*/config.json")):
        config = json.loads(file.read_text())
        model_class, args_class = _get_classes(config)
        model = model_class(args_class.from_dict(config))
        name = MODEL_REMAPPING.get(config["model_type"], config["model_type"])
        exceptions(
            model,
            never.setdefault(name, set()),
            eight.setdefault(name, {}),
            uncast.setdefault(name, set()),
        )
        lists = classes.setdefault(name, {})
        for path, siblings in children(k for k, _ in tree_flatten(model.parameters())).items():
            if all(sibling.isdigit() for sibling in siblings):
                continue
            parent = path[-1] if path else ""
            lists.setdefault("*" if parent.isdigit() else parent, []).append(siblings)
    orders = {
        name: {parent: merged(found) for parent, found in lists.items()}
        for name, lists in sorted(classes.items())
    }
    trivial = [["weight"], ["weight", "bias"]]
    shared = []
    for table in orders.values():
        for parent, order in list(table.items()):
            if order in trivial or len(order) < 2:
                del table[parent]
                continue
            if order not in shared:
                shared.append(order)
            table[parent] = shared.index(order)
    parts = {"lists": shared, "classes": orders}
    for key, table in (("never", never), ("uncast", uncast)):
        parts[key] = {name: sorted(found) for name, found in sorted(table.items()) if found}
    parts["eight"] = {name: found for name, found in sorted(eight.items()) if found}
    text = HEADER
    for key, part in parts.items():
        text = text.replace(f"{{{key}}}", json.dumps(part))
    arguments.out.write_text(text)


main()

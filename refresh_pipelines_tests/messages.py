"""What errors say, read from the source: the sentence of each that is raised, with `…` for what is filled in."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "refresh_pipelines"
# What ends a command with a sentence: our tree, click's errors, and what commands turn into these.
BASES = {"RefreshError", "SettingsError", "ClickException", "UsageError", "BadParameter"}
TOLD = {
    "Ambiguous", "AddressError", "BrokenSource", "FaultError", "PortInUse", "SandboxError", "TargetNotEmpty",
    "UnknownPartition", "UnknownSource",
}  # fmt: skip


@dataclass(frozen=True)
class Said:
    """One sentence: the name of its class, its text, and where."""

    kind: str
    text: str
    where: str


@dataclass
class Source:
    """What is looked up of the package: classes with their bases, and functions and calls by name.

    A function's own assignments and returns are beside it, and beside a call the function it is in.
    """

    bases: dict = field(default_factory=dict)
    functions: dict = field(default_factory=lambda: defaultdict(list))
    calls: dict = field(default_factory=lambda: defaultdict(list))
    inside: dict = field(default_factory=lambda: defaultdict(list))


@cache
def source():
    found = Source()
    for path in sorted(PACKAGE.rglob("*.py")):
        _read(ast.parse(path.read_text()), found, str(path.relative_to(PACKAGE)))
    return found


def _read(tree, found, where):
    """Enter all of a file. Annotations and leaves hold nothing, and are most of it."""
    todo = [(tree, None, None)]
    while todo:
        node, function, kind = todo.pop()
        if isinstance(node, ast.ClassDef):
            found.bases[node.name] = {_name(base) for base in node.bases}
            kind = node.name
        elif isinstance(node, ast.FunctionDef):
            found.functions[node.name].append(node)
            function = node
        elif isinstance(node, ast.Call):
            called = kind if _name(node.func) == "__init__" else _name(node.func)
            found.calls[called].append((node, function, where))
        elif isinstance(node, ast.Assign | ast.Return):
            found.inside[function].append(node)
        below = (getattr(node, name) for name in node._fields)
        ones = (one for value in below for one in (value if isinstance(value, list) else (value,)))
        todo += [(one, function, kind) for one in ones if getattr(one, "_fields", ()) and not isinstance(one, _LEAVES)]


_LEAVES = ast.Name | ast.Constant | ast.arguments | ast.alias


def _name(node):
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


@cache
def kinds():
    """Return the names of the classes that are errors with a sentence."""
    found = BASES | TOLD
    while more := {name for name, above in source().bases.items() if above & found} - found:
        found |= more
    return found


def _told(node, function, seen=frozenset()):
    """Return the texts that an expression can be; None for what is another error's sentence, or cannot be read."""
    if isinstance(node, ast.Constant):
        return {node.value} if isinstance(node.value, str) else {None}
    if isinstance(node, ast.JoinedStr):
        return {"".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)}
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        ends = _told(node.right, function, seen)
        return {(begin or "…") + (end or "…") for begin in _told(node.left, function, seen) for end in ends}
    if isinstance(node, ast.IfExp | ast.BoolOp):
        parts = (node.body, node.orelse) if isinstance(node, ast.IfExp) else node.values
        return set().union(*(_told(part, function, seen) for part in parts))
    if isinstance(node, ast.Name) and function and (node.id, function) not in seen:
        return _named(node.id, function, seen | {(node.id, function)})
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in seen:
        made = [(part.value, one) for one in source().functions.get(node.func.id, ())
                for part in source().inside[one] if isinstance(part, ast.Return) and part.value]  # fmt: skip
        if made:
            return set().union(*(_told(value, one, seen | {node.func.id}) for value, one in made))
    return {None}


def _named(name, function, seen):
    """Return what a variable can be: what it is set to in its function, or what the function is called with."""
    values = []
    for part in source().inside[function]:
        for target in part.targets if isinstance(part, ast.Assign) else ():
            several = isinstance(target, ast.Tuple) and isinstance(part.value, ast.Tuple)
            pairs = zip(target.elts, part.value.elts, strict=True) if several else [(target, part.value)]
            values += [(value, function) for to, value in pairs if isinstance(to, ast.Name) and to.id == name]
    names = [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]
    if not values and name in names:
        place = names.index(name) - (names[0] in ("self", "cls"))
        for call, around, _ in source().calls.get(function.name, ()):
            given = [word.value for word in call.keywords if word.arg == name] or call.args[place : place + 1]
            values += [(value, around) for value in given]
    return set().union(*(_told(value, around, seen) for value, around in values)) if values else {None}


def _sentence(call, kind):
    """Return the expression that is the sentence of an error, None for an error without one."""
    place = 1 if kind == "Refused" else 0
    words = [word.value for word in call.keywords if word.arg == "problem"]
    return words[0] if words else call.args[place] if len(call.args) > place else None


@cache
def said():
    """Return all sentences of all errors, and the errors whose sentence cannot be read from the source, as code."""
    found, unread = [], []
    for kind in sorted(kinds()):
        for call, function, file in source().calls.get(kind, ()):
            expression, where = _sentence(call, kind), f"{file}:{call.lineno}"
            for text in _told(expression, function) if expression is not None else ():
                if text is None and _name(call.func) != "__init__":  # what it was made with
                    unread.append(f"{where} {kind}({ast.unparse(expression)})")
                elif text and any(letter.isalpha() for letter in text):
                    found.append(Said(kind, re.sub("…+", "…", " ".join(text.split())), where))
    return found, unread

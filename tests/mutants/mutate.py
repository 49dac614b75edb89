# SPDX-License-Identifier: MIT
"""The mutants of one C source file: each differs from it in one small place, as a slip of the
pen would. Works on the text: comments, strings, preprocessor lines and assertions are left
alone, and no mutant changes the number of lines."""
import collections
import re

RELATIONS = {"<": ["<=", ">="], "<=": ["<", ">"], ">": [">=", "<="], ">=": [">", "<"], "==": ["!="], "!=": ["=="]}
OPERATORS = {"&&": "||", "||": "&&", "+": "-", "-": "+", "*": "/", "/": "*", "%": "/", "&": "|", "|": "&",
             "+=": "-=", "-=": "+=", "|=": "&=", "&=": "|=", "<<": ">>", ">>": "<<"}


class Mutant:
    """`text` is the whole mutated file; (function, was, becomes) tell a reader where and what,
    in words that survive edits elsewhere in the file;
    of several that read alike in a function, the second has ordinal 2."""

    def __init__(self, source, function, line, at, end, was, becomes):
        self.function, self.line, self.ordinal = function, line, 1
        self.text = source[:at] + becomes + source[end:]
        begin, stop = source.rfind("\n", 0, at) + 1, source.find("\n", end)
        self.was = " ".join(source[begin:stop].split())
        self.becomes = " ".join((source[begin:at] + becomes + source[end:stop]).split()) if was else becomes

    def describe(self):
        ordinal = f" ({self.ordinal})" if self.ordinal > 1 else ""
        return f"{self.function}: `{self.was}` becomes `{self.becomes}`{ordinal}"


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def mask(source):
    """The same text with everything blanked that is not to be mutated."""
    source = re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, source, flags=re.S)
    source = re.sub(r"^#.*(?:\\\n.*)*$", blank, source, flags=re.M)
    source = re.sub(r"\b(?:static_)?assert\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\);", blank, source)
    return re.sub(r"\bTKV_(?:REQUIRES|NO_ANALYSIS|GUARDED_BY)\b(?:\([^)]*\))?", blank, source)


def functions(code):
    """(name, return type, first and last offset of the body) of each function."""
    for match in re.finditer(r"^([a-z][\w \*]*?[ \*])(\w+)\([^;{}]*\)\s*\{\n(.*?)^\}", code, re.S | re.M):
        yield match.group(2), match.group(1).replace("static", "").strip(), match.start(3), match.end(3)


def replacements(body, result):
    """(offset, end, becomes) within a masked function body, kind by kind."""
    yield from early_returns(result)
    for match in re.finditer(r"(?<![<>\-=!+*/&|%])(<=|>=|==|!=|<|>)(?![<>=])", body):
        for becomes in RELATIONS[match.group()]:
            yield match.start(), match.end(), becomes
    for match in re.finditer(r" (&&|\|\||\+|-|\*|/|%|&|\||\+=|-=|\|=|&=|<<|>>) ", body):
        yield match.start(1), match.end(1), OPERATORS[match.group(1)]
    for match in re.finditer(r"(\+\+|--)", body):
        yield match.start(), match.end(), "--" if match.group() == "++" else "++"
    for match in re.finditer(r"!(?=[\w(*])", body):
        yield match.start(), match.end(), ""
    for match in re.finditer(r"(?<![\w.])(\d+)(u?)(?![\w.])", body):
        for number in {int(match.group(1)) + 1, max(0, int(match.group(1)) - 1)} - {int(match.group(1))}:
            yield match.start(), match.end(), f"{number}{match.group(2)}"
    for match in re.finditer(r"\btrue\b|\bfalse\b", body):
        yield match.start(), match.end(), "false" if match.group() == "true" else "true"
    yield from conditions(body)
    yield from statements(body, result)


def early_returns(result):
    values = {"enum tkv_status": ["TKV_OK"], "bool": ["true", "false"], "void": [""], "uint64_t": ["0"],
              "int": ["0"]}
    for value in values.get(result, []):
        yield 0, 0, f"return {value};".replace(" ;", ";")


def conditions(body):
    for match in re.finditer(r"\b(if|while) \(", body):
        depth, at = 1, match.end()
        while depth > 0:
            depth += {"(": 1, ")": -1}.get(body[at], 0)
            at += 1
        yield match.end(), match.end(), "!("
        if match.group(1) == "if":
            yield match.end(), at - 1, "0"
            yield match.end(), at - 1, "1"
    # The first of the three is completed by `negated`.


def statements(body, result):
    """Expression statements, jumps and returns: gone, or returning success."""
    for match in re.finditer(r"(?<=[;{})\n])\s*\n?([ \t]*)((?:return\b|goto |break|continue|[a-z_(*]\S*?[\w)\]]*(?: [-+|&]?= |\+\+|--|\()))",
                             body):
        begin = match.start(2)
        end = body.find(";", begin)
        text = body[begin:end]
        if end < 0 or re.match(r"(?:if|while|for|switch|do|case|default|else|sizeof)\b", text):
            continue
        if "{" in text and "}" not in text:
            continue
        if re.match(r"(?:const |static |struct |enum |unsigned |u?int\d*_t |size_t |char |bool |int |double |void )", text):
            continue  # a declaration
        if text.startswith("return"):
            value = text[6:].strip()
            if result == "enum tkv_status" and value != "TKV_OK":
                yield begin, end, "return TKV_OK"
            if result == "bool" and value not in ("true", "false"):
                yield begin, end, "return true"
                yield begin, end, "return false"
            if not is_guarded(body, begin):
                continue
        yield begin, end, ""


def is_guarded(body, at):
    """A return that is the branch of an `if`: without it the function goes on."""
    before = body[:at].rstrip()
    return before.endswith(")") or before.endswith("else")


def mutants(source):
    code = mask(source)
    for name, result, start, end in functions(code):
        body = code[start:end]
        seen, alike = set(), collections.Counter()
        for at, stop, becomes in replacements(body, result):
            if becomes == "!(":
                depth, close = 1, at
                while depth > 0:
                    depth += {"(": 1, ")": -1}.get(body[close], 0)
                    close += 1
                stop, becomes = close - 1, f"!({source[start + at:start + close - 1]})"
            if becomes == "" and stop > at and body[at] != "!":
                becomes = "(void)0" + "\n" * source[start + at:start + stop].count("\n")
            elif "\n" not in becomes:
                becomes += "\n" * source[start + at:start + stop].count("\n")
            if (at, stop, becomes) in seen:
                continue
            seen.add((at, stop, becomes))
            line = source.count("\n", 0, start + at) + 1
            mutant = Mutant(source, name, line, start + at, start + stop, stop > at, becomes)
            alike[mutant.was, mutant.becomes] += 1
            mutant.ordinal = alike[mutant.was, mutant.becomes]
            yield mutant

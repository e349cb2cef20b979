"""How large the course is beside its limits: `python tests/sizes.py` prints the table."""

import ast
import io
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = sorted((ROOT / "course_utils").rglob("*.py"))
LIMITS = {
    "course_utils, code": 7_000,
    "texts of exercises": 6_000,
    "tests of exercises, code": 3_500,
}
LAYOUT = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)


def sizes() -> dict[str, int]:
    """Lines by part of the course; the last is the docstrings of public names, without a limit."""
    texts = (ROOT / "notebooks" / "exercises").glob("*.md")
    tests = (ROOT / "tests").glob("test_*exercise*.py")
    return {
        "course_utils, code": sum(code_lines(path.read_text("utf-8")) for path in PACKAGE),
        "texts of exercises": sum(len(path.read_text("utf-8").splitlines()) for path in texts),
        "tests of exercises, code": sum(code_lines(path.read_text("utf-8")) for path in tests),
        "public docstrings": sum(docstring_lines(path.read_text("utf-8")) for path in PACKAGE),
    }


def code_lines(source: str) -> int:
    """Lines that hold code: no blank lines, comments or docstrings."""
    texts: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            texts.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in (*LAYOUT, tokenize.ENDMARKER):
            found.update(range(token.start[0], token.end[0] + 1))
    return len(found - texts)


def docstring_lines(source: str) -> int:
    """Lines of the docstrings of a module and of its public classes, functions and methods."""
    count, left = 0, [ast.parse(source)]
    while left:
        node = left.pop()
        count += len((ast.get_docstring(node) or "").splitlines())
        named = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, ast.Module | ast.ClassDef):  # what a function holds is its own matter
            left += [n for n in node.body if isinstance(n, named) and not n.name.startswith("_")]
    return count


if __name__ == "__main__":
    print(f"{'lines':30} {'now':>6} {'limit':>6}")
    for name, now in sizes().items():
        limit = f"{LIMITS[name]:6,}" if name in LIMITS else ""
        print(f"{name:30} {now:6,} {limit}".rstrip())

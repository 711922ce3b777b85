"""What the fields of a class mean: the text that stands below each in the source, for people, editors and the docs.

Python keeps no docstrings of attributes, so they are read from the source, when somebody asks for them.
"""

import ast
import inspect
import itertools
import textwrap

__all__ = ["descriptions"]


def descriptions(kind: type) -> dict[str, str]:
    """Return the text below each annotated field of a class and its bases, in one line; a field without is left out.

    Empty for a class whose source is not there, such as one typed at a prompt.

    >>> from q2.settings import TrainSettings
    >>> descriptions(TrainSettings)["learning_rate"]
    'The highest learning rate of a one-cycle schedule.'
    """
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        found |= _own(each) if "__annotations__" in vars(each) or "__annotate_func__" in vars(each) else {}
    return found


def _own(kind: type) -> dict[str, str]:
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):  # typed at a prompt, or built in
        return {}
    (node,) = ast.parse(textwrap.dedent(source)).body
    body = node.body if isinstance(node, ast.ClassDef) else []
    found = {}
    for field, below in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = below.value.value if isinstance(below.value, ast.Constant) else None
            if isinstance(text, str):
                found[field.target.id] = " ".join(text.split())
    return found

"""YAML 1.2 as profiles are written in, where PyYAML reads 1.1."""

from __future__ import annotations

import re

import yaml


class _Yaml12(yaml.SafeLoader):
    """YAML 1.2's core schema: 010 is ten, 1:30 and 2024_01 are text, 1e-3 is a number."""

    yaml_implicit_resolvers: dict = {}

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):  # a few lines of them fill any memory
            raise yaml.YAMLError(f"aliases such as *{self.peek_event().anchor} are not read")
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value]
        if twice := [name for name in names if names.count(name) > 1]:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"{twice[0]!r} is given twice in what begins in line {line}")
        return super().construct_mapping(node, deep)

    def construct_int(self, node):
        return int(node.value, 0 if node.value[:2] in ("0o", "0x") else 10)


for _kind, _pattern in (
    ("null", r"~|null|Null|NULL|"),
    ("bool", r"true|True|TRUE|false|False|FALSE"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)|\.(nan|NaN)"),
):
    _Yaml12.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), None
    )
_Yaml12.add_constructor("tag:yaml.org,2002:int", _Yaml12.construct_int)


def read_yaml(text: str):
    """What a YAML 1.2 text holds; ``yaml.YAMLError`` where it is none, or has a key twice."""
    try:
        return yaml.load(text, Loader=_Yaml12)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise yaml.YAMLError(str(error) or type(error).__name__) from error

"""Read Prometheus' text by the library's own parser, one figure for each name and labels."""

from collections.abc import Mapping

from prometheus_client import parser

Figures = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: bytes) -> Figures:
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in parser.text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} stands there twice"
            found[key] = sample.value
    return found


def figure(text: bytes, name: str, **labels: str) -> float | None:
    """One figure; None where there is no such series."""
    return read(text).get((name, frozenset(labels.items())))


def series(text: bytes, name: str) -> Mapping[frozenset[tuple[str, str]], float]:
    """All figures of one name, by their labels."""
    return {labels: value for (each, labels), value in read(text).items() if each == name}

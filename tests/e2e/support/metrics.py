"""The Prometheus text format, strictly read."""

import re
from dataclasses import dataclass, field

_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([0-9.eE+-]+|[+-]Inf|NaN)")
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\[\\"n])*)"(?:,|$)')


@dataclass
class Samples:
    """Every sample of one scrape."""

    samples: list[tuple[str, dict[str, str], float]] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str) -> "Samples":
        """Reads a whole answer; a line that is neither comment nor sample fails."""
        found = cls()
        assert text.endswith("\n")
        for line in text.splitlines():
            if line.startswith("#") or not line:
                continue
            match = _SAMPLE.fullmatch(line)
            assert match, f"not a sample: {line!r}"
            labels = {}
            rest = match[2] or ""
            while rest:
                label = _LABEL.match(rest)
                assert label, f"bad labels: {line!r}"
                labels[label[1]] = label[2]
                rest = rest[label.end() :]
            found.samples.append((match[1], labels, float(match[3])))
        return found

    def _matching(self, name: str, wanted: dict[str, str]) -> list[tuple[dict[str, str], float]]:
        return [
            (labels, value) for key, labels, value in self.samples if key == name and wanted.items() <= labels.items()
        ]

    def total(self, name: str, **labels: str) -> float:
        """The sum over all series with these labels."""
        return sum(value for _, value in self._matching(name, labels))

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the one series with these labels; none if there is none."""
        found = self._matching(name, labels)
        assert len(found) <= 1, f"{len(found)} series of {name} with {labels}"
        return found[0][1] if found else None

    def labels(self, name: str) -> list[dict[str, str]]:
        """The label sets of a family."""
        return [labels for labels, _ in self._matching(name, {})]

    def count(self) -> int:
        """How many series there are."""
        return len(self.samples)

"""``python -m docs.generate.notices``: writes THIRD_PARTY_NOTICES.md from installed metadata.

Walks the requirements of Assay to the end, names the licence of each package, and stops at a
licence that is not on the list below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = Path("THIRD_PARTY_NOTICES.md")
COMPATIBLE = frozenset(
    {
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0"),
        *("CNRI-Python", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Unlicense", "Zlib"),
        *("ZPL-2.1", "LLVM-exception"),
        # Copyleft for their own files only; they are used unchanged, as installed.
        *("MPL-2.0", "EPL-1.0", "EPL-2.0", "Artistic-1.0-Perl", "GPL-2.0-linking-exception"),
    }
)
"""Licences under which a package may be used, unchanged, beside code under Apache-2.0."""
KNOWN = {
    "asyncssh": "EPL-2.0 OR GPL-2.0-or-later",
    "contourpy": "BSD-3-Clause",
    "grandalf": "EPL-1.0 OR GPL-2.0-only",
    "huey": "MIT",
    "hyperframe": "MIT",
    "pygit2": "GPL-2.0-linking-exception",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "requests-oauthlib": "ISC",
    "skops": "MIT",
    "text-unidecode": "Artistic-1.0-Perl OR GPL-2.0-or-later",
}
"""Packages whose metadata states no licence, or several in words; from their licence files."""
WORDS = (
    (r"apache", "Apache-2.0"),
    (r"mozilla|mpl-2\.0", "MPL-2.0"),
    (r"python software foundation|^psf", "PSF-2.0"),
    (r"\bisc\b", "ISC"),
    (r"zope|^zpl", "ZPL-2.1"),
    (r"bsd[ -]2", "BSD-2-Clause"),
    (r"bsd", "BSD-3-Clause"),
    (r"\bmit\b", "MIT"),
    (r"unlicense", "Unlicense"),
)
HEAD = """\
# Third-party notices

Made by `make docs` from the metadata of installed packages; a test compares, and fails at a licence
that is not on the list of compatible ones in `docs/generate/notices.py`. Versions are in
`constraints.txt`.

Assay contains no code of these packages: `make install` gets each from its own publisher, under its
own licence, and each keeps its licence file in `.venv`. CUDA builds of torch bring libraries of
NVIDIA under NVIDIA's terms. Reports embed the chart library they draw with: Vega, Vega-Lite and
Vega-Embed, BSD-3-Clause, copyright University of Washington Interactive Data Lab and contributors.

**direct** packages are named in `pyproject.toml`; **transitive** ones are needed by those;
**development** ones are needed to test only.

| Package | Licence | Needed |
|---|---|---|
"""


@dataclass(frozen=True)
class Package:
    """One package and the terms it comes under."""

    name: str
    licence: str
    needed: str

    @property
    def is_compatible(self) -> bool:
        """Whether a choice of licences is on the list, all parts of it.

        >>> Package("a", "GPL-3.0-only OR MIT", "").is_compatible
        True
        >>> Package("a", "GPL-3.0-only AND MIT", "").is_compatible
        False
        """
        plain = re.sub(r"[()]", " ", self.licence)
        if " AND " in plain:
            # Every part binds; a choice within a part is enough.
            parts = re.split(r" AND (?![^(]*\))", self.licence)
            return all(Package("", part.strip("() "), "").is_compatible for part in parts)
        choices = [re.split(r"\s+WITH\s+", choice.strip()) for choice in plain.split(" OR ")]
        return any(all(name in COMPATIBLE for name in choice) for choice in choices)

    @property
    def row(self) -> str:
        """Its line of the table."""
        return f"| {self.name} | {self.licence} | {self.needed} |"


ELSEWHERE = (Package("async-timeout", "Apache-2.0", "transitive"),)
"""Needed by other versions of Python than the one this page is made with: before 3.11.3."""


def packages() -> list[Package]:
    """Return every package Assay needs here, direct ones first, by name.

    Raises:
        PackageNotFoundError: Assay is not installed.
    """
    direct = _required("assay", ("",))
    runtime = _closure(direct)
    development = _closure(_required("assay", ("dev",)))
    names = {key for key, _ in direct}
    found = []
    for name in sorted(runtime | development):
        kind = "direct" if name in names else "transitive"
        needed = kind if name in runtime else "development"
        found.append(Package(name, licence_of(metadata.distribution(name)), needed))
    return sorted(found, key=_place)


def _place(package: Package) -> tuple[int, str]:
    return ("direct", "transitive", "development").index(package.needed), package.name


def licence_of(distribution: metadata.Distribution) -> str:
    """Return the licence as an SPDX expression, from the most exact field that states one."""
    about = distribution.metadata
    name = _key(about["Name"])
    if name in KNOWN:
        return KNOWN[name]
    if expression := about.get("License-Expression"):
        return str(expression)
    classifiers = [
        line.rpartition("::")[2] for line in about.get_all("Classifier", []) if "License" in line
    ]
    licences = [_first_words(about.get("License") or "")]
    for texts in (licences if " AND " in licences[0] else [], classifiers, licences):
        stated = _spdx(texts)
        if stated:
            return stated
    return licences[0] or "none stated"


def _spdx(texts: Iterable[str]) -> str:
    found: list[str] = []
    for text in texts:
        for part in text.split(" AND "):
            match = next((spdx for word, spdx in WORDS if re.search(word, part.lower())), "")
            if match and match not in found:
                found.append(match)
    joint = " AND " if any(" AND " in text for text in texts) else " OR "
    return joint.join(found)


def _first_words(text: str) -> str:
    return " ".join(text.split())[:60].strip()


def _closure(todo: Iterable[tuple[str, tuple[str, ...]]]) -> set[str]:
    waiting, done = list(todo), set()
    while waiting:
        entry = waiting.pop()
        if entry in done:
            continue
        done.add(entry)
        waiting.extend(_required(*entry))
    return {name for name, _ in done if not name.startswith(("nvidia-", "cuda-"))}


def _required(name: str, extras: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
    """Installed requirements of a package with these extras, where their markers hold here."""
    found = []
    for text in metadata.distribution(name).requires or ():
        needed = Requirement(text)
        if needed.marker and not any(needed.marker.evaluate({"extra": e}) for e in extras):
            continue
        found.append((_key(needed.name), tuple(sorted(needed.extras)) or ("",)))
    return found


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def render() -> str:
    """Return the page.

    Raises:
        ValueError: a licence is not on the list of compatible ones.
    """
    found = packages()
    refused = [package for package in found if not package.is_compatible]
    if refused:
        lines = ", ".join(f"{package.name} ({package.licence})" for package in refused)
        raise ValueError(
            f"licences not known to be compatible: {lines}. Read the licence file; then add it to "
            "COMPATIBLE or KNOWN in docs/generate/notices.py, or drop the package."
        )
    rows = sorted({package.row: package for package in (*found, *ELSEWHERE)}.values(), key=_place)
    return HEAD + "".join(f"{package.row}\n" for package in rows)


def main() -> None:
    """Write the page."""
    (REPOSITORY / PAGE).write_text(render(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()

"""Which packages this system needs and which of them are not installed, as its own metadata has it. Imports none of them."""

from importlib.metadata import PackageNotFoundError, metadata, requires, version

_NAME = "mmaudio"


def missing_packages(extra: str = "") -> list[str]:
    """A sentence for each package that is missing or of a version that does not do; with `extra` those of that extra alone.

    None for an extra that there is not, nor where the system itself was not installed by pip.
    """
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in requires(_NAME) or ()]
    except PackageNotFoundError:
        return []
    chosen = [each for each in wanted if _belongs(each, extra)]
    command = f"pip install '{_NAME}[{extra}]'" if extra else f"pip install {_NAME}"
    sentences = []
    for each in chosen:
        found = _found(each.name)
        if found is None:
            sentences.append(f"the package {each.name} is not installed; `{command}`, or `make setup`, installs it")
        elif not each.specifier.contains(found, prereleases=True):
            sentences.append(f"the package {each.name} is {found}; want {each.specifier}: `{command}`, or `make setup`, installs it")
    return sentences


def extras() -> tuple[str, ...]:
    """Names of the extras there are, that of developers aside."""
    try:
        return tuple(name for name in metadata(_NAME).get_all("Provides-Extra") or () if name != "dev")
    except PackageNotFoundError:
        return ()


def _belongs(each: object, extra: str) -> bool:
    marker = getattr(each, "marker", None)
    if not extra:
        return marker is None or bool(marker.evaluate({"extra": ""}))
    return marker is not None and bool(marker.evaluate({"extra": extra})) and not marker.evaluate({"extra": ""})


def _found(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

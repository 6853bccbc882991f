"""What hydra and omegaconf say of settings, in one line, in the words in which one sets them."""

import difflib
import re
import sys
from collections.abc import Callable, Sequence

from hydra.errors import HydraException, MissingConfigException, OverrideParseException

from darts_gdas import config as configuration
from darts_gdas.reasons import installing
from darts_gdas.runtime.launch import command, setting, shell_quoted

CHOOSE_FIRST = (
    "a value is set inside a choice that is off; choose first, such as penalties=[cost] "
    "for penalties.cost.target, or perturbation=random for perturbation.epsilon.end"
)
"""What is said of a setting whose part is not chosen."""

LONGEST = 600
"""Characters of a message; a value that is a whole file is cut."""

_KINDS = {"Integer": "a whole number", "Float": "a number"}


def one_line(error: Exception) -> str:
    """An error in one line, with what is allowed in place of what was given."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_choice(error.missing_cfg_file, error.options)
    if isinstance(error, OverrideParseException) and "=" not in error.override.strip("="):
        return f"{error.override!r} is no setting; write name=value, without blanks around the ="
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} cannot be read; quote the value: {_quoted(error.override)}"
    told = str(error)
    if isinstance(error, HydraException):  # any other says itself why
        told += f"\n{error.__cause__ or ''}"
    for pattern, words in _RULES:
        found = re.search(pattern, told)
        if found and (text := words(found)):
            return text
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    internal = re.compile(r"(full_key|reference_type|object_type)\b")
    text = "; ".join(line for line in lines if not internal.match(line)) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _unknown_choice(missing: str, options: Sequence[str] | None) -> str:
    group, _, choice = missing.rpartition("/")
    if not group:
        return f"conf/ has no program {choice!r}; leave --config-name out"
    if choice.startswith("submitit_"):
        return f"this hydra/launcher needs submitit: {installing('slurm')}"
    known = options or sorted(configuration.GROUPS.get(group, ()))
    names = [option for option in known if not option.endswith("_schema")]
    hint = _hint(choice, names, cutoff=0.6) or ";"
    return f"{group}={choice} is not known{hint} choose one of {', '.join(names)}"


def _not_to_add(found: re.Match[str]) -> str:
    return f"{found[1]!r} is a setting already, not one to add: {found[2]}"


def _chosen_already(found: re.Match[str]) -> str | None:
    for typed in sys.argv:
        group = typed.partition("=[")[0]
        if group in configuration.CHOICES and "=[" in typed:
            return _one_name(group)
    if f"+{found[1]}={found[2]}" not in sys.argv:  # but in a file, where hydra's advice is right
        return None
    return f"{found[1]!r} is chosen already, not one to add: {found[1]}={found[2]}"


def _one_name(group: str) -> str:
    return f"{group!r} takes one name, no list: {group}=NAME"


def _unsettable(found: re.Match[str]) -> str:
    """A key that this composition does not have, by what is known of all of them."""
    key, known = found[1], configuration.known_keys()
    inside = re.search(rf"full_key: ({re.escape(key)}\.\S+)", found.string)
    key = inside[1] if inside else key
    if key in configuration.ADDABLE:
        return f"{key!r} is added to the settings: +{key}=NAME"
    if key not in known:
        named = [name for name in known if re.fullmatch(rf"\w+\.{re.escape(key)}", name)]
        hint = f"; did you mean {' or '.join(named)}?" if named else _hint(key, known)
        return f"there is no setting {key!r}{hint}"
    if key.startswith("penalties."):
        return CHOOSE_FIRST
    added = [typed for typed in sys.argv if re.match(rf"\++{re.escape(key)}=", typed)]
    if added:
        return f"{key!r} is a setting, not one to add: {added[0].lstrip('+')}"
    text = f"{key!r} is a setting of another program, or of another choice of a group"
    if owners := configuration.programs_with(key):
        text = f"{key!r} is a setting of another program: {' or '.join(map(command, owners))}"
    own = key.removeprefix("net.") if key.startswith("net.") else f"net.{key}"
    return _has_parts(key) or (f"{text}; did you mean {own}?" if own in known else text)


def _has_parts(key: str) -> str | None:
    parts = [name for name in configuration.known_keys() if name.startswith(f"{key}.")]
    return f"{key!r} has parts: set {', '.join(parts)}" if parts else None


def _no_part(found: re.Match[str]) -> str | None:
    if stage := re.match(r"stages\.(\d+)\.", found[1]):
        return f"this search has no stage {stage[1]}, counted from 0; method=pdarts has three"
    return _has_parts(found[1])


_RULES: Sequence[tuple[str, Callable[[re.Match[str]], str | None]]] = (
    (r"Cannot set '[^']+' because '[^']+' is None|^Unexpected type", lambda _: CHOOSE_FIRST),
    (r"override ([\w.]+)=.*\nInvalid type assigned: \w+ is not a subclass", _no_part),
    (
        r"override ([\w.]+)=(.*)\nInvalid value assigned: \w+ is not a ListConfig",
        lambda found: f"{found[1]!r} is a list: {found[1]}=[{found[2]}]",
    ),
    (
        r"override ([\w.]+)=.*\nfield '[\w.]+' is not Optional",
        lambda found: f"{found[1]!r} must have a value, it cannot be null",
    ),
    (
        r"override (\+*[\w.]+)=(.*)\nValue .* of type '\w+' could not be converted to (\w+)",
        lambda found: (
            f"{found[1].lstrip('+')} must be {_KINDS.get(found[3], found[3])}, got {found[2]}"
        ),
    ),
    (
        r"override (\+*[\w.]+)=(.*)\nInvalid value .*, expected one of \[(.*)\]",
        lambda found: f"{found[1].lstrip('+')} must be one of {found[3]}, got {found[2]}",
    ),
    (
        r"override (\+*[\w.]+)=(.*)\nValue .* is not a valid bool",
        lambda found: f"{found[1].lstrip('+')} must be true or false, got {found[2]}",
    ),
    (
        r"override (\+*[\w.]+)=(.*)\nCannot convert 'list' to string",
        lambda found: f"{found[1].lstrip('+')!r} takes one value, no list, got {found[2]}",
    ),
    (
        r"Error resolving interpolation '\$\{([\w/]+)\}', possible interpolation keys",
        lambda found: _one_name(found[1]),
    ),
    (
        r"In 'experiment/(\w+)': .*\nKey '(\w+)' not in '\w+Config'",
        lambda found: (
            f"+experiment={found[1]} holds settings of another program ({found[2]}); "
            f"{command('train', f'+experiment={found[1]}')}"
        ),
    ),
    (
        "Config group override must be a string or a list",
        lambda _: (
            "what is chosen for a part must be a name, or a list of names; a run's config.yaml "
            "holds no names, its overrides.yaml does"
        ),
    ),
    (r"An item is already at '([^']+)'\..*\n.*remove \+ prefix: '(.+)'\n", _not_to_add),
    (r"^Multiple values for ([\w/]+)\. To override .*: ([^']+)'", _chosen_already),
    (r"^Could not override '([^']+)'", _unsettable),
)
"""What the messages of both look like, and how each is told."""


def _hint(word: str, known: Sequence[str], cutoff: float = 0.5) -> str:
    by_case = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_case, n=1, cutoff=cutoff)
    return f"; did you mean {by_case[close[0]]}?" if close else ""


def _quoted(override: str) -> str:
    """An override that hydra could read, as it is typed."""
    name, _, value = override.partition("=")
    return shell_quoted(setting(name, value.strip("'\"")))

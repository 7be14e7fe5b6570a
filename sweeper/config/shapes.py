"""What each kind of value looks like in JSON Schema: never narrower than what is read."""

from typing import Any, Final

from sweeper.domain import labels

Shape = dict[str, Any]

_NUMBER: Final = "0*[1-9][0-9]*"
_TIMED: Final = f"(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?"
_ISO: Final = f"P(?=[0-9T])(?:{_NUMBER}W|(?:{_NUMBER}D)?(?:T(?=[0-9]){_TIMED})?)"
_SUM: Final = "(?=[0-9])" + "".join(f"(?:{_NUMBER}{unit}(?: (?=[0-9]))?)?" for unit in "wdhms")
_LENGTH: Final = f"{_SUM}|{_ISO}"

_FIELD: Final = "[0-9A-Za-z*,/-]+"
_DAY: Final = r"(?:\*|[A-Za-z]+(?:-[A-Za-z]+(?:/[0-9]+)?)?)"
_WEEK: Final = f"{_DAY}(?:,{_DAY})*"
_CRON: Final = rf"^ *{_FIELD} +{_FIELD} +(?:\* +{_FIELD} +{_WEEK}|{_FIELD} +{_FIELD} +\*) *$"

_LOOPBACK_V6: Final = r"\[[0:]*1\]"
_LOOPBACK: Final = rf"(?:[Ll][Oo][Cc][Aa][Ll][Hh][Oo][Ss][Tt]|127\.[0-9.]+|{_LOOPBACK_V6})"
_NEITHER: Final = r"(?!.*[@?# \\])(?!.*/v1/?$)"
# The ledger's password has other places: ~/.pgpass and $PGPASSWORD.
_PLAIN: Final = r"(?![^:]*://[^/?#]*:[^/?#]*@)(?!.*[?&]password=[^&#])"


def matching(pattern: str) -> Shape:
    return {"type": "string", "pattern": pattern}


def one_of(*known: str) -> Shape:
    return {"enum": list(known)}


def whole(least: int, most: int | None = None) -> Shape:
    limit = {} if most is None else {"maximum": most}
    return {"type": "integer", "minimum": least, **limit}


def some(shape: Shape) -> Shape:
    """One value, or a list of them that means "one of"."""
    return {"anyOf": [shape, {"type": "array", "items": shape, "minItems": 1}]}


FLAG: Final[Shape] = {"type": "boolean"}
SHARE: Final[Shape] = {"type": "number", "minimum": 0, "maximum": 1}
TEXT: Final[Shape] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 256,
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$",
}
FILE: Final[Shape] = {**TEXT, "pattern": TEXT["pattern"].replace("*$", "*[^/]$")}
LENGTH: Final[Shape] = {"type": "string", "maxLength": 64, "pattern": f"^(?:{_LENGTH})$"}
AGE: Final[Shape] = {**LENGTH, "pattern": f"^(?:forever|{_LENGTH})$"}
RATE: Final = matching(r"^(?=[0-9]{1,9}/)0*[1-9][0-9]*/(?:second|minute)$")
CRON: Final = matching(_CRON)
LEDGER_URL: Final = matching(
    rf"^{_PLAIN}(?:sqlite(?:\+[^:]*)?:///(?!$|\?|:memory:)|postgresql(?:\+[^:]*)?://)"
)
BASE_URL: Final = matching(
    rf"^[Hh][Tt][Tt][Pp](?:[Ss]://(?=[^/])|://(?={_LOOPBACK}(?:[:/]|$))){_NEITHER}[!-~]*$"
)
VARIABLE: Final = matching("^[A-Za-z_][A-Za-z0-9_]{0,127}$")
ACCOUNT_ID: Final = matching("^[!-~]{1,128}$")
ACCOUNT_NAME: Final = matching("^[A-Za-z0-9_-]{1,64}$")
LISTEN: Final = matching(r"^(?:\[[0-9A-Fa-f:.]+\]|[0-9.]+|localhost):[0-9]{1,5}$")
LISTEN_TO_OURSELVES: Final = matching(rf"^(?:localhost|127\.[0-9.]+|{_LOOPBACK_V6}):")
COMMAND: Final[Shape] = {
    "type": "array",
    "items": TEXT,
    "prefixItems": [matching("^/")],
    "minItems": 1,
}
LABELS: Final[Shape] = {
    "type": "object",
    "propertyNames": matching(r"^[A-Za-z0-9_.:/-]{1,64}$"),
    "additionalProperties": some(TEXT),
    "maxProperties": labels.MOST_LABELS,
}

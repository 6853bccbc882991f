"""Why something failed, in the words of an error, for messages of one line."""


def reason(error: BaseException, *, named: bool = False, most: int = 300) -> str:
    """What an error says, in one line.

    Args:
        error: The error, whose text may have several lines and be of any length.
        named: Whether its type comes first, where its text alone tells little.
        most: The characters that are kept.
    """
    text = f"{type(error).__name__}: {error}" if named else str(error)
    return " ".join(text.split())[:most]

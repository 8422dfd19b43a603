"""What may stand in a text that somebody typed or sent: whole characters, and in a question some of them."""

import re

HALF = re.compile("[\ud800-\udfff]")
BYTE = range(0xDC80, 0xDD00)  # what Python makes of bytes on a command line or in a file name that are no UTF-8


def check_text(what: str, text: str) -> str:
    """The text as it is. Raises ValueError, naming place and remedy, for half a character, which no model can read.

    what: the text's name, such as "The question".
    """
    found = HALF.search(text)
    if found is None:
        return text
    code, place = ord(found[0]), found.start() + 1
    if code in BYTE:
        half, remedy = f"the byte 0x{code - 0xDC00:02X}, which is no UTF-8,", "send it as UTF-8"
    else:
        half, remedy = f"half a character ({found[0]!r}, a lone surrogate)", "type the whole character, or leave it out"
    raise ValueError(f"{what} holds {half} at place {place}: {remedy}")


def checked_question(question: object, most: int | None = None) -> str:
    """The question without surrounding blanks. Raises ValueError for one that is empty, has more than `most`
    characters, or holds half a character; never repeats it.
    """
    text = question.strip() if isinstance(question, str) else ""
    if not text:
        raise ValueError("The question is empty: type one, for example “what color is the star?”")
    if most is not None and len(text) > most:
        raise ValueError(f"The question has {len(text):,} characters, at most {most:,} are allowed: shorten it")
    return check_text("The question", text)


def printable(text: str) -> str:
    """The text with \\-escapes for halves of characters, so that it can be sent."""
    return text.encode("utf-8", "backslashreplace").decode()

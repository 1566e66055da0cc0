# SPDX-License-Identifier: MIT
"""JSON as model files have it (SPEC 10.9): without white space, whole numbers, every length bounded.

MicroPython's json accepts what CPython's refuses, and neither has bounds.
"""

LONGEST_TEXT = 2000  # bytes of a string in JSON; a name of a folder takes at most 1,530
LONGEST_KEY = 64
LONGEST_LIST = 16
MOST_DIGITS = 10
DEEPEST = 4  # lists and objects within each other
ECHO = 60  # characters of a value that an error shows
WORDS = ((b"null", None), (b"true", True), (b"false", False))
ESCAPES, ESCAPED = b'"\\/bfnrt', '"\\/\b\f\n\r\t'
QUOTE, COMMA, MINUS, OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT = b'",-[]{}'
HEX = b"0123456789abcdefABCDEF"


def shown(value):
    """A value for an error: one line of at most about ECHO characters, the same on MicroPython and CPython."""
    if type(value) is dict:
        return "an object"
    if type(value) is list:
        text = "[" + ", ".join([shown(item) for item in value[:LONGEST_LIST]])
        text += "]" if len(value) <= LONGEST_LIST else ", .."
    elif type(value) is str:
        text = "".join([c if " " <= c <= "~" else "?" for c in value[: ECHO + 1]])
    else:
        text = str(value)
    return text if len(text) <= ECHO else text[: ECHO - 2] + ".."


class Scanner:
    """Reads `text`, bytes of printable ASCII, from `at` on.

    field: what errors call it; start: position of `text` in what errors count in; refuse: called as
    refuse(field, why), raises the error.
    """

    # Heaps are small, and what lies scattered in them costs room: nothing here makes an object for each byte.

    def __init__(self, text, field, refuse, start=0):
        self.text, self.at, self.start = text, 0, start
        self._refuse, self._keys, self._depth = refuse, [], 0
        self.field(field)

    def field(self, name, part=None):
        """What errors call what comes."""
        self._field, self._part = name, part

    def refuse(self, why):
        """Raise the error for the value that is being read."""
        names = [self._field] + ([self._part] if self._part else []) + self._keys
        self._refuse(" ".join(names), why)

    def next(self):
        """The next byte, a number; 0 at the end."""
        return self.text[self.at] if self.at < len(self.text) else 0

    def ahead(self):
        """What stands next, for an error."""
        return shown(str(self.text[self.at : self.at + ECHO + 1], "ascii"))

    def expect(self, token, field=None):
        """Go over `token`, which must stand here."""
        if not self.text.startswith(token, self.at):
            if field is not None:
                self.field(field)
            self.refuse("expected %s at byte %d, not '%s'" % (str(token, "ascii"), self.start + self.at, self.ahead()))
        self.at += len(token)

    def end(self):
        """Refuse anything that is left."""
        if self.at != len(self.text):
            self.refuse("'%s' behind its end" % self.ahead())

    def key(self):
        """A name: a string without escapes."""
        self.expect(b'"')
        end = self.text.find(b'"', self.at, self.at + LONGEST_KEY + 1)
        name = self.text[self.at : end]
        if end < 0 or b"\\" in name:
            self.refuse("'%s' is no name of at most %d plain characters" % (self.ahead(), LONGEST_KEY))
        self.at = end + 1
        return str(name, "ascii")

    def raw(self, longest):
        """The bytes of a string between its quotes, escapes as they stand."""
        self.expect(b'"')
        start = end = self.at
        while True:
            end = self.text.find(b'"', end, start + longest + 1)
            if end < 0:
                self.refuse("'%s' does not end within %d characters" % (self.ahead(), longest))
            backslashes = 0
            while self.text[end - 1 - backslashes] == 0x5C:
                backslashes += 1
            if backslashes % 2 == 0:
                break
            end += 1
        self.at = end + 1
        return self.text[start:end]

    def string(self):
        """A string."""
        raw = self.raw(LONGEST_TEXT)
        out, at = "", 0
        while True:
            slash = raw.find(b"\\", at)
            if slash < 0:
                return out + str(raw[at:], "ascii")
            out += str(raw[at:slash], "ascii")
            at = slash + 2
            if raw[at - 1 : at] == b"u":
                code = self._unit(raw, slash)
                at += 4
                if 0xD800 <= code < 0xE000:
                    low = self._unit(raw, at) if raw[at : at + 2] == b"\\u" else 0
                    if code >= 0xDC00 or not 0xDC00 <= low < 0xE000:
                        self.refuse("half of a surrogate pair")
                    code = 0x10000 + ((code - 0xD800) << 10) + low - 0xDC00
                    at += 6
                out += chr(code)
            else:
                escape = ESCAPES.find(raw[at - 1 : at])
                if escape < 0:
                    self.refuse("'%s' is no escape of JSON" % str(raw[slash:at], "ascii"))
                out += ESCAPED[escape]

    def _unit(self, raw, slash):
        """The number in an escape of four hexadecimal digits."""
        digits = raw[slash + 2 : slash + 6]
        for digit in digits:
            if digit not in HEX:
                digits = b""
        if len(digits) != 4:
            self.refuse("'%s' is no escape of JSON" % str(raw[slash : slash + 6], "ascii"))
        return int(str(digits, "ascii"), 16)

    def number(self):
        """A whole number."""
        text, end = self.text, self.at
        negative = self.next() == MINUS
        first = end = end + negative
        value = 0
        while end < len(text) and 48 <= text[end] <= 57:
            if end - first == MOST_DIGITS:
                self.refuse("%s is no whole number of at most %d digits" % (self.ahead(), MOST_DIGITS))
            value = 10 * value + text[end] - 48
            end += 1
        # -0 and 007 are not written by anyone; 1.5 and 1e9 are no whole numbers.
        wrong = end == first or (text[first] == 48 and (end - first > 1 or negative))
        if wrong or (end < len(text) and text[end] in b".eE"):
            self.refuse("%s is not a whole number" % self.token())
        self.at = end
        return -value if negative else value

    def token(self):
        """What stands here up to the next comma or bracket, for an error."""
        end = self.at
        while end < min(self.at + ECHO, len(self.text)) and self.text[end] not in b",]}":
            end += 1
        return str(self.text[self.at : end], "ascii")

    def numbers(self, longest):
        """A list of at most `longest` whole numbers from 0 on, whose opening bracket must stand here."""
        self.expect(b"[")
        found = []  # type: list[int]
        while self.next() != CLOSE_LIST:
            if found:
                self.expect(b",")
            if len(found) == longest:
                self.refuse("more than %d numbers" % longest)
            if not 48 <= self.next() <= 57:
                self.refuse("'%s' is not a whole number from 0" % self.token())
            found.append(self.number())
        self.at += 1
        return found

    def value(self, longest=LONGEST_LIST):
        """Any value; longest: items of a list that is not within another."""
        byte = self.next()
        if byte == QUOTE:
            return self.string()
        if byte == MINUS or 48 <= byte <= 57:
            return self.number()
        if byte == OPEN_LIST or byte == OPEN_OBJECT:
            if self._depth == DEEPEST:
                self.refuse("more than %d lists and objects within each other" % DEEPEST)
            self._depth += 1
            found = self._list(longest) if byte == OPEN_LIST else self._object()
            self._depth -= 1
            return found
        for word, meaning in WORDS:
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return meaning
        self.refuse("'%s' is not JSON" % self.token())

    def _more(self, close):
        """Whether another item comes, behind a comma, or `close`."""
        byte = self.next()
        if byte != COMMA and byte != close:
            self.refuse("expected , or %s, not '%s'" % (chr(close), self.ahead()))
        self.at += 1
        return byte == COMMA

    def _list(self, longest):
        self.at += 1
        found = []  # type: list[object]
        if self.next() == CLOSE_LIST:
            self.at += 1
            return found
        while True:
            if len(found) == longest:
                self.refuse("a list of more than %d" % longest)
            found.append(self.value())
            if not self._more(CLOSE_LIST):
                return found

    def _object(self):
        self.at += 1
        found = {}  # type: dict[str, object]
        if self.next() == CLOSE_OBJECT:
            self.at += 1
            return found
        while True:
            key = self.key()
            if key in found:
                self.refuse("'%s' stands in it twice" % key)
            self.expect(b":")
            self._keys.append(key)
            found[key] = self.value()
            self._keys.pop()
            if not self._more(CLOSE_OBJECT):
                return found


def parse(text, field, refuse, longest=LONGEST_LIST):
    """The value that `text`, bytes of printable ASCII, is; longest: items of a list that is not within another."""
    scanner = Scanner(text, field, refuse)
    value = scanner.value(longest)
    scanner.end()
    return value

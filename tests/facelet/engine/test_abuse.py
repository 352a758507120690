"""Bad input to the library: a code and a text, never a crash."""

import engine_abuse as abuse
from hypothesis import given, settings
from hypothesis import strategies as st

from facelet.engine import library

LIBRARY = library.library()
WHOLE = abuse.descriptions()[1]


def test_calls_that_can_not_be():
    abuse.bad_calls(LIBRARY)


def test_damaged_descriptions():
    abuse.damaged(LIBRARY)


def test_descriptions_that_lie():
    assert 5 < abuse.lies(LIBRARY, 100) < 95


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(WHOLE) - abuse.HEADER), st.booleans())
def test_descriptions_of_any_bytes(some, place, keep):
    """In the place of a sound one, or of a part of it."""
    body = WHOLE[abuse.HEADER :]
    body = body[:place] + some + body[place + len(some) :] if keep else some
    try:
        library.CNet(LIBRARY, abuse.signed(body))
    except library.EngineError as error:
        assert error.code and str(error)

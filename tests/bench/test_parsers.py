import pytest

from interp.bench.parsers import PARSERS, get_parser

TABLE = {  # reply: what strict, pope, opera, vcd and clearsight (true answer yes, then no) and mme make of it
    "Yes.": ("yes", "yes", "yes", "yes yes", "yes yes", "yes"),
    "No, there is no cat.": ("no", "no", "no", "no no", "no no", "no"),
    "no": ("no", "no", "no", "no no", "no no", "no"),
    "NO": ("no", "yes", "no", "no no", "no no", "no"),
    "NO.": ("no", "yes", "no", "no no", "no no", "no"),
    "": ("", "yes", "yes", "no yes", "no yes", ""),
    "There is a cat. It is not black.": ("", "yes", "no", "no no", "no no", ""),
    "There isn't a cat.": ("", "yes", "no", "no yes", "no yes", ""),
    "I do not know.": ("", "no", "no", "no no", "no no", ""),
    "I know this cat": ("", "yes", "yes", "no no", "no no", ""),
    "Yes and no": ("yes", "no", "no", "yes no", "yes no", "yes"),
    "None": ("", "yes", "yes", "no no", "no no", "no"),
    "Not here": ("", "yes", "yes", "no no", "no no", "no"),
    "Now I see one": ("", "yes", "yes", "no no", "no no", "no"),
    "Eyes are seen": ("", "yes", "yes", "yes yes", "yes yes", "yes"),
    "  yes": ("yes", "yes", "yes", "yes yes", "yes yes", ""),
    "**No**": ("no", "yes", "yes", "no no", "no no", "no"),
    "no\nway": ("no", "yes", "yes", "no no", "no no", "no"),
}


@pytest.mark.parametrize("reply", TABLE)
def test_the_table_of_readers_that_disagree(reply):
    plain = {
        n: " ".join(dict.fromkeys(PARSERS[n](reply, t) for t in ("yes", "no")))
        for n in ("strict", "pope", "opera", "mme")
    }
    by_truth = {n: " ".join(PARSERS[n](reply, t) for t in ("yes", "no")) for n in ("vcd", "clearsight")}
    assert {**plain, **by_truth} == dict(
        zip(("strict", "pope", "opera", "vcd", "clearsight", "mme"), TABLE[reply], strict=True)
    )


def test_an_unknown_reader_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"no parser 'stric' \(did you mean strict\?\); parsers: strict, pope, opera"):
        get_parser("stric")

// For tests of parsers: the same text, cut at every place.
#pragma once

#include <gtest/gtest.h>

#include <string_view>

#include "http/guard_page_test.h"
#include "http/parser.h"

namespace kiln::http {

// Parses every prefix of `text`, each against an unmapped page: before the place of decision more is needed, and from
// there on the outcome is the same. Returns what the whole gives. `parse` takes the text; `why` is the member of its
// result that says why it is Invalid, and has a value None.
template <class Parse, class Result, class Why>
Result parse_every_prefix(std::string_view text, const Parse& parse, Why Result::*why) {
  GuardedBytes guarded(text.size());
  const Result whole = parse(guarded.place(text));
  bool decided = false;
  for (size_t bytes = 0; bytes <= text.size(); ++bytes) {
    const Result part = parse(guarded.place(text.substr(0, bytes)));
    if (whole.outcome == ParseOutcome::Complete) {
      decided = bytes >= whole.consumed;
    } else if (part.outcome == ParseOutcome::Invalid) {
      decided = true;
    }
    EXPECT_EQ(part.outcome, decided ? whole.outcome : ParseOutcome::NeedMore) << "after " << bytes << " bytes";
    EXPECT_EQ(part.consumed, decided ? whole.consumed : 0) << "after " << bytes << " bytes";
    EXPECT_EQ(part.*why, decided ? whole.*why : Why::None) << "after " << bytes << " bytes";
  }
  return whole;
}

}  // namespace kiln::http

// The MongoDB back end at a command line, for test_driver.py: each line of standard input is a command, each of
// standard output its answer.
//
//   insert TEXT...  ok ID...        a batch; as in the store, a session that failed gives way to a new one
//   remove ID...    ok yes|no...
//   find ID...      ok yes|no...
//   page COUNT      ok ID...
//                   error REASON
#include <iostream>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "store/mongodb.h"

namespace {

using namespace kiln;
using store::Change;

using Answer = base::Result<std::string>;

std::string yes_or_no(bool is_so) { return is_so ? " yes" : " no"; }

store::RecordId parse(const std::string& text) { return store::RecordId::parse(text).value_or(store::RecordId{}); }

Answer insert(store::Session& session, store::IdMaker& ids, std::span<const std::string> texts) {
  std::vector<Change> changes;
  for (const std::string& text : texts) {
    changes.push_back({.kind = Change::Kind::Insert, .record = {.id = ids.next(1), .created_at = 1, .data = text}});
  }
  if (auto applied = session.apply(changes); !applied) return std::unexpected(applied.error());
  std::string answer;
  for (const Change& change : changes) answer += ' ' + change.record.id.text();
  return answer;
}

Answer remove(store::Session& session, std::span<const std::string> ids) {
  std::vector<Change> changes;
  for (const std::string& id : ids) {
    changes.push_back({.kind = Change::Kind::Remove, .record = {.id = parse(id), .data = {}}});
  }
  if (auto applied = session.apply(changes); !applied) return std::unexpected(applied.error());
  std::string answer;
  for (const Change& change : changes) answer += yes_or_no(change.found);
  return answer;
}

Answer find(store::Session& session, std::span<const std::string> ids) {
  std::vector<store::Lookup> lookups;
  for (const std::string& id : ids) lookups.push_back({.id = parse(id)});
  if (auto found = session.find(lookups); !found) return std::unexpected(found.error());
  std::string answer;
  for (const store::Lookup& lookup : lookups) answer += yes_or_no(lookup.record.has_value());
  return answer;
}

Answer page(store::Session& session, size_t count_max) {
  const auto page = session.page({.before = std::nullopt, .count_max = count_max});
  if (!page) return std::unexpected(page.error());
  std::string answer;
  for (const store::Record& record : page->records) answer += ' ' + record.id.text();
  return answer;
}

Answer obey(store::Session& session, store::IdMaker& ids, const std::vector<std::string>& words) {
  const std::span arguments = std::span(words).subspan(1);
  if (words[0] == "insert") return insert(session, ids, arguments);
  if (words[0] == "remove") return remove(session, arguments);
  if (words[0] == "find") return find(session, arguments);
  if (words[0] == "page" && !arguments.empty()) return page(session, std::stoul(arguments[0]));
  return base::error("no such command");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: records URI\n";
    return 2;
  }
  const auto database = store::open_mongodb({.uri = argv[1]});
  if (!database) {
    std::cerr << database.error().what << '\n';
    return 1;
  }
  store::IdMaker ids;
  std::unique_ptr<store::Session> session;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::vector<std::string> words;
    for (std::string word; in >> word;) words.push_back(word);
    if (words.empty()) continue;
    Answer answer = base::error("no session");
    if (!session) {
      auto opened = (*database)->open_session(ids);
      if (opened) session = std::move(*opened);
      if (!opened) answer = std::unexpected(opened.error());
    }
    if (session) answer = obey(*session, ids, words);
    if (!answer) session.reset();
    std::cout << (answer ? "ok" + *answer : "error " + answer.error().what) << "\n" << std::flush;
  }
  return 0;
}

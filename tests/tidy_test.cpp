// Our conventions, held by reading the tree: which folder may include which, what we do not call and what to use
// instead, and what must not be left behind. A finding is file:line and what to do.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace fs = std::filesystem;

// What a folder may include besides itself. "web" are the embedded files.
const std::map<std::string, std::set<std::string>, std::less<>> kMayInclude = {
    {"base", {}},
    {"core", {"base"}},
    {"http", {"base"}},
    {"burn", {"base"}},
    {"store", {"base"}},
    {"profile", {"base"}},
    {"load", {"base", "core", "http", "profile"}},
    {"calibrate", {"base", "core", "http", "load", "profile"}},
    {"app", {"base", "core", "http", "burn", "store", "profile", "load", "calibrate", "web"}},
};

struct Source {
  std::string path;                // from the top of the tree
  std::vector<std::string> lines;  // as written
  std::vector<std::string> code;   // the same with comments and the insides of literals blanked; for C++ only
  bool ends_with_newline = true;

  [[nodiscard]] std::string folder() const { return path.substr(0, path.find('/')); }
  [[nodiscard]] std::string name() const { return path.substr(path.rfind('/') + 1); }
  [[nodiscard]] bool in_module() const { return path.contains('/') && kMayInclude.contains(folder()); }
  [[nodiscard]] bool is_header() const { return path.ends_with(".h"); }
  [[nodiscard]] bool is_cpp() const { return is_header() || path.ends_with(".cpp"); }
};

struct Finding {
  std::string path;
  size_t line = 0;
  std::string instead;
};

using Findings = std::vector<Finding>;

bool is_word(char c) { return c == '_' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// Where the comment or literal that starts at `at` ends, and what of it is kept on either side; `at` when none starts.
struct Skip {
  size_t end;
  size_t keep = 0;
};

Skip skip_from(std::string_view text, size_t at) {
  const auto find_end = [&](std::string_view closing, size_t from) {
    const size_t found = text.find(closing, from);
    return found == std::string_view::npos ? text.size() : found + closing.size();
  };
  const std::string_view rest = text.substr(at);
  if (rest.starts_with("//")) return {std::min(text.find('\n', at), text.size())};
  if (rest.starts_with("/*")) return {find_end("*/", at + 2)};
  if (rest.starts_with("R\"") && (at == 0 || !is_word(text[at - 1]))) {
    const size_t open = text.find('(', at);
    if (open == std::string_view::npos) return {text.size()};
    return {find_end(")" + std::string(text.substr(at + 2, open - at - 2)) + "\"", open), 2};
  }
  const bool digit_separator = rest.starts_with('\'') && at > 0 && is_word(text[at - 1]);
  if ((rest.starts_with('"') || rest.starts_with('\'')) && !digit_separator) {
    size_t end = at + 1;
    while (end < text.size() && text[end] != text[at] && text[end] != '\n') end += text[end] == '\\' ? 2u : 1u;
    return {std::min(end + 1, text.size()), 1};
  }
  return {at};
}

std::string blank_comments_and_literals(std::string_view text) {
  std::string code(text);
  for (size_t at = 0; at < text.size();) {
    const auto [end, keep] = skip_from(text, at);
    if (end == at) {
      ++at;
      continue;
    }
    for (size_t i = at + keep; i + keep < end; ++i) {
      if (code[i] != '\n') code[i] = ' ';
    }
    at = end;
  }
  return code;
}

Source make_source(std::string path, std::string_view text) {
  Source source{.path = std::move(path), .lines = split_lines(text), .code = {}};
  source.ends_with_newline = text.empty() || text.ends_with('\n');
  if (source.is_cpp()) source.code = split_lines(blank_comments_and_literals(text));
  return source;
}

// ---- rules: each looks at one file

struct Include {
  size_t line;
  std::string file;
  bool quoted;
};

std::vector<Include> includes_of(const Source& source) {
  std::vector<Include> includes;
  for (size_t i = 0; i < source.code.size(); ++i) {
    std::string_view line = source.lines[i];
    if (!source.code[i].starts_with("#include ")) continue;
    const size_t open = line.find_first_of("<\"");
    if (open == std::string_view::npos) continue;
    const bool quoted = line[open] == '"';
    line.remove_prefix(open + 1);
    includes.push_back({i + 1, std::string(line.substr(0, line.find_first_of(">\""))), quoted});
  }
  return includes;
}

void includes_point_one_way(const Source& source, Findings& findings) {
  const bool in_module = source.in_module();
  if (source.is_cpp() && !in_module && source.folder() != "bench" && source.folder() != "tests") {
    findings.push_back({source.path, 1, "give the new folder a row in kMayInclude of tests/tidy_test.cpp"});
    return;
  }
  for (const auto& [line, file, quoted] : includes_of(source)) {
    if (quoted && in_module) {
      const std::string from = file.substr(0, file.find('/'));
      if (!file.contains('/')) {
        findings.push_back({source.path, line, "include it by its folder: \"" + source.folder() + "/" + file + "\""});
      } else if (from != source.folder() && !kMayInclude.at(source.folder()).contains(from)) {
        findings.push_back({source.path, line,
                            source.folder() + "/ may not include " + from +
                                "/: pass what is needed in, or move the shared part down to base/"});
      }
    }
    static const std::set<std::string, std::less<>> kKnowLiburing = {"core/ring.cpp", "core/ring_test.cpp",
                                                                     "core/buffer_ring.cpp"};
    if (file == "liburing.h" && in_module && !kKnowLiburing.contains(source.path)) {
      findings.push_back({source.path, line, "go through core/ring.h or core/buffer_ring.h; forward declare io_uring"});
    }
  }
}

void http_does_no_io(const Source& source, Findings& findings) {
  if (source.folder() != "http") return;
  static const std::map<std::string, std::string, std::less<>> kInstead = {
      {"sys/socket.h", "http/ does no I/O: take bytes and return bytes"},
      {"chrono", "http/ has no clock: take the time as a number"},
      {"thread", "http/ is single-threaded: leave threads to core/"},
      {"mutex", "http/ is single-threaded: leave locks to core/"},
      {"expected", "return a small result struct: http/ is fuzzed with a clang that has no <expected>"},
      {"base/result.h", "return a small result struct: http/ is fuzzed with a clang that has no <expected>"},
  };
  for (const auto& [line, file, quoted] : includes_of(source)) {
    // date.cpp takes the time as an argument and needs the calendar only.
    if (source.path == "http/date.cpp" && file == "chrono") continue;
    if (const auto found = kInstead.find(file); found != kInstead.end()) {
      findings.push_back({source.path, line, found->second});
    }
  }
}

enum class Use : uint8_t { Call, Name };
enum class Where : uint8_t { Anywhere, Modules, ModulesButApp, Http };

struct Banned {
  std::string_view name;
  Use use;
  Where where;
  std::string_view instead;
};

constexpr std::string_view kNoSleep = "no sleeping: use a timer of the loop, or take the time as an argument";
constexpr std::string_view kNoPrint = "only app/ prints: return the text, or an Error";

constexpr Banned kBanned[] = {
    {"assert", Use::Call, Where::Anywhere, "use CHECK: it stays in release builds"},
    {"sprintf", Use::Call, Where::Anywhere, "use fmt, std::to_chars or std::snprintf"},
    {"vsprintf", Use::Call, Where::Anywhere, "use fmt, std::to_chars or std::snprintf"},
    {"strcpy", Use::Call, Where::Anywhere, "use std::string, or memcpy with a checked size"},
    {"strcat", Use::Call, Where::Anywhere, "use std::string"},
    {"strtok", Use::Call, Where::Anywhere, "use std::string_view::find: it keeps no hidden state"},
    {"atoi", Use::Call, Where::Anywhere, "use base/quantity.h or std::from_chars: it tells garbage from zero"},
    {"atol", Use::Call, Where::Anywhere, "use base/quantity.h or std::from_chars: it tells garbage from zero"},
    {"atof", Use::Call, Where::Anywhere, "use base/quantity.h or std::from_chars: it tells garbage from zero"},
    {"rand", Use::Call, Where::Anywhere, "use <random> with a seed that can be given"},
    {"srand", Use::Call, Where::Anywhere, "use <random> with a seed that can be given"},
    {"system", Use::Call, Where::Anywhere, "no shell: use posix_spawn in tests, a function elsewhere"},
    {"regex", Use::Name, Where::Anywhere, "match by hand: std::regex is slow and recurses on its input"},
    {"endl", Use::Name, Where::Anywhere, "write '\\n': std::endl flushes"},
    {"printf", Use::Call, Where::ModulesButApp, kNoPrint},
    {"fprintf", Use::Call, Where::ModulesButApp, kNoPrint},
    {"puts", Use::Call, Where::ModulesButApp, kNoPrint},
    {"cout", Use::Name, Where::ModulesButApp, kNoPrint},
    {"cerr", Use::Name, Where::ModulesButApp, kNoPrint},
    {"sleep", Use::Call, Where::Modules, kNoSleep},
    {"usleep", Use::Call, Where::Modules, kNoSleep},
    {"nanosleep", Use::Call, Where::Modules, kNoSleep},
    {"sleep_for", Use::Call, Where::Modules, kNoSleep},
    {"sleep_until", Use::Call, Where::Modules, kNoSleep},
    {"system_clock", Use::Name, Where::Http, "http/ has no clock: take the time as a number"},
    {"steady_clock", Use::Name, Where::Http, "http/ has no clock: take the time as a number"},
    {"clock_gettime", Use::Name, Where::Http, "http/ has no clock: take the time as a number"},
};

bool applies(const Banned& banned, const Source& source) {
  // The last words of a broken invariant: nobody is left to return them to.
  if (source.path == "base/check.cpp" && banned.instead == kNoPrint) return false;
  switch (banned.where) {
    case Where::Anywhere: return true;
    case Where::Modules: return source.in_module();
    case Where::ModulesButApp: return source.in_module() && source.folder() != "app";
    case Where::Http: return source.folder() == "http";
  }
  return false;
}

void find_name(const Source& source, const Banned& banned, Findings& findings) {
  for (size_t i = 0; i < source.code.size(); ++i) {
    const std::string_view line = source.code[i];
    if (line.starts_with("#include")) continue;
    for (size_t at = line.find(banned.name); at != std::string_view::npos; at = line.find(banned.name, at + 1)) {
      const size_t end = at + banned.name.size();
      const bool whole = (at == 0 || !is_word(line[at - 1])) && (end == line.size() || !is_word(line[end]));
      const bool member = at > 0 && (line[at - 1] == '.' || line.substr(0, at).ends_with("->"));
      const size_t next = line.find_first_not_of(' ', end);
      const bool call = next != std::string_view::npos && line[next] == '(';
      if (whole && !member && (call || banned.use == Use::Name)) {
        findings.push_back({source.path, i + 1, std::string(banned.name) + ": " + std::string(banned.instead)});
      }
    }
  }
}

void calls_nothing_banned(const Source& source, Findings& findings) {
  for (const Banned& banned : kBanned) {
    if (applies(banned, source)) find_name(source, banned, findings);
  }
  for (size_t i = 0; i < source.code.size(); ++i) {
    if (source.code[i].contains("using namespace std;")) {
      findings.push_back({source.path, i + 1, "write std:: where it is meant"});
    }
  }
}

void headers_are_included_once(const Source& source, Findings& findings) {
  if (!source.is_header()) return;
  if (std::ranges::find(source.code, "#pragma once") == source.code.end()) {
    findings.push_back({source.path, 1, "begin with #pragma once"});
  }
}

// Prose and data wrap as they like.
bool has_line_limit(const Source& source) {
  static const std::set<std::string, std::less<>> kNames = {"CMakeLists.txt", "run", "test", "image", "Dockerfile"};
  return source.is_cpp() || source.path.ends_with(".cmake") || source.path.ends_with(".py") ||
         source.path.ends_with(".sh") || kNames.contains(source.name());
}

// True for a byte that begins a character of UTF-8.
bool starts_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }

void lines_are_tidy(const Source& source, Findings& findings) {
  constexpr std::ptrdiff_t kColumnsMax = 120;
  for (size_t i = 0; i < source.lines.size(); ++i) {
    const std::string& line = source.lines[i];
    const auto columns = std::ranges::count_if(line, starts_character);
    if (line.contains('\t')) findings.push_back({source.path, i + 1, "indent with blanks, write \\t in a literal"});
    if (line.ends_with(' ')) findings.push_back({source.path, i + 1, "remove the blanks at the end"});
    if (line.ends_with('\r')) findings.push_back({source.path, i + 1, "end lines with LF alone"});
    if (columns > kColumnsMax && has_line_limit(source)) {
      findings.push_back({source.path, i + 1, "break the line: 120 columns at most"});
    }
  }
  if (!source.ends_with_newline) findings.push_back({source.path, source.lines.size(), "end the last line"});
}

bool contains_word(std::string_view line, std::string_view word) {
  for (size_t at = line.find(word); at != std::string_view::npos; at = line.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || !is_word(line[at - 1])) && (end == line.size() || !is_word(line[end]))) return true;
  }
  return false;
}

void nothing_is_left_behind(const Source& source, Findings& findings) {
  // In two pieces each, since this file is looked at too.
  constexpr std::string_view kNotes[] = {"TO" "DO", "FIX" "ME", "XX" "X"};
  constexpr std::string_view kMarkers[] = {"<<<<" "<<<", ">>>>" ">>>", "||||" "|||"};
  constexpr std::string_view kMachinePaths[] = {"/wo" "rk/", "/tmp" "/h"};
  for (size_t i = 0; i < source.lines.size(); ++i) {
    const std::string_view line = source.lines[i];
    for (const std::string_view note : kNotes) {
      if (contains_word(line, note)) findings.push_back({source.path, i + 1, "do it, or open an issue"});
    }
    for (const std::string_view marker : kMarkers) {
      if (line.starts_with(marker)) findings.push_back({source.path, i + 1, "finish the merge"});
    }
    for (const std::string_view path : kMachinePaths) {
      const size_t at = line.find(path);
      if (at == std::string_view::npos || (at > 0 && (is_word(line[at - 1]) || line[at - 1] == '.'))) continue;
      findings.push_back({source.path, i + 1, "name no path of one machine: make it relative, or an argument"});
    }
  }
}

using Rule = void (*)(const Source&, Findings&);

// ---- the tree

bool is_text(const fs::path& path) {
  static const std::set<std::string, std::less<>> kExtensions = {
      ".h",   ".cpp", ".c",  ".cmake", ".txt", ".md",   ".html",         ".css",        ".js",
      ".json", ".yaml", ".yml", ".py",  ".sh",  ".toml", ".jq", ".clang-format", ".clang-tidy", ".gitignore"};
  static const std::set<std::string, std::less<>> kNames = {
      "run", "test", "image", "image_pod", "sbom", "copyrights", "Dockerfile", ".dockerignore"};
  return kExtensions.contains(path.extension().string()) || kExtensions.contains(path.filename().string()) ||
         kNames.contains(path.filename().string());
}

// Not ours to shape: what is built, version control, and recorded or generated inputs of tests.
bool is_skipped(const std::string& folder) {
  return folder == ".git" || folder == "kiln-data" || folder.starts_with("build") || folder == "corpus" ||
         folder == "testdata" || folder.starts_with(".cache") || folder == "__pycache__";
}

std::string read_file(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

const std::vector<Source>& tree() {
  static const std::vector<Source> sources = [] {
    const fs::path top(KILN_SOURCE_DIR);
    std::vector<Source> found;
    for (auto it = fs::recursive_directory_iterator(top); it != fs::recursive_directory_iterator(); ++it) {
      if (it->is_directory()) {
        if (is_skipped(it->path().filename().string())) it.disable_recursion_pending();
      } else if (it->is_regular_file() && is_text(it->path())) {
        found.push_back(make_source(fs::relative(it->path(), top).string(), read_file(it->path())));
      }
    }
    return found;
  }();
  return sources;
}

const Source* find_source(std::string_view path) {
  const auto found = std::ranges::find(tree(), path, &Source::path);
  return found == tree().end() ? nullptr : &*found;
}

void report(const Findings& findings) {
  for (const Finding& finding : findings) {
    ADD_FAILURE_AT(finding.path.c_str(), static_cast<int>(finding.line)) << finding.instead;
  }
}

void hold(Rule rule) {
  Findings findings;
  for (const Source& source : tree()) rule(source, findings);
  report(findings);
}

TEST(Tidy, TreeIsFound) {
  EXPECT_NE(find_source("CMakeLists.txt"), nullptr);
  for (const auto& [module, may_include] : kMayInclude) {
    EXPECT_TRUE(std::ranges::any_of(tree(), [&](const Source& s) { return s.is_cpp() && s.folder() == module; }))
        << "no C++ in " << module << "/: is " << KILN_SOURCE_DIR << " the top of the tree?";
  }
}

TEST(Tidy, IncludesPointOneWay) { hold(includes_point_one_way); }
TEST(Tidy, HttpDoesNoInputOrOutput) { hold(http_does_no_io); }
TEST(Tidy, NothingBannedIsCalled) { hold(calls_nothing_banned); }
TEST(Tidy, HeadersAreIncludedOnce) { hold(headers_are_included_once); }
TEST(Tidy, LinesAreTidy) { hold(lines_are_tidy); }
TEST(Tidy, NothingIsLeftBehind) { hold(nothing_is_left_behind); }

// A file outside the build is dead. A benchmark may be named by its stem, as its target is.
TEST(Tidy, EverySourceIsBuilt) {
  for (const Source& source : tree()) {
    if (!source.path.ends_with(".cpp") || !source.path.contains('/')) continue;
    fs::path folder = fs::path(source.path).parent_path();
    const Source* lists = nullptr;
    while (!folder.empty() && (lists = find_source((folder / "CMakeLists.txt").string())) == nullptr) {
      folder = folder.parent_path();
    }
    const std::string name = source.folder() == "bench" ? fs::path(source.path).stem().string() : source.name();
    const auto named = [&](const std::string& line) { return contains_word(line, name); };
    if (lists == nullptr || std::ranges::none_of(lists->lines, named)) {
      report({{source.path, 1, "name it in " + (folder / "CMakeLists.txt").string() + ", or delete it"}});
    }
  }
}

TEST(Tidy, ArchitectureStaysShort) {
  const Source* architecture = find_source("ARCHITECTURE.md");
  if (architecture == nullptr) return;
  constexpr size_t kLinesMax = 249;
  EXPECT_LE(architecture->lines.size(), kLinesMax) << "ARCHITECTURE.md: move details next to the code";
}

// The project's version stands in three files that cannot read each other.
TEST(Tidy, VersionsAgree) {
  const auto version_after = [](std::string_view path, std::string_view before) -> std::string {
    const Source* source = find_source(path);
    if (source == nullptr) return std::string(path) + " is missing";
    for (const std::string_view line : source->lines) {
      const size_t at = line.find(before);
      if (at == std::string_view::npos) continue;
      const std::string_view rest = line.substr(at + before.size());
      return std::string(rest.substr(0, rest.find_first_not_of("0123456789.")));
    }
    return std::string(before) + " is missing in " + std::string(path);
  };
  const std::string version = version_after("CMakeLists.txt", "project(kiln VERSION ");
  EXPECT_EQ(version_after("web/openapi.json", "\"version\": \""), version);
  EXPECT_EQ(version_after("Dockerfile", "ARG KILN_VERSION="), version);
}

// ---- the rules themselves

struct RuleCase {
  std::string_view name;
  Rule rule;
  std::string_view path;
  std::string_view text;
  size_t line;  // of the one finding; 0 for none
};

constexpr RuleCase kRuleCases[] = {
    {"upward include", includes_point_one_way, "base/a.h", "\n#include \"http/b.h\"\n", 2},
    {"sideways include", includes_point_one_way, "http/a.cpp", "#include \"core/b.h\"\n", 1},
    {"include of tests", includes_point_one_way, "app/a.cpp", "#include \"tests/b.h\"\n", 1},
    {"bare include", includes_point_one_way, "core/a.cpp", "#include \"b.h\"\n", 1},
    {"downward include", includes_point_one_way, "core/a.cpp", "#include \"base/b.h\"\n#include <string>\n", 0},
    {"app includes all", includes_point_one_way, "app/a.cpp", "#include \"web/a.h\"\n#include \"burn/b.h\"\n", 0},
    {"bench includes all", includes_point_one_way, "bench/a.cpp", "#include \"app/b.h\"\n#include <liburing.h>\n", 0},
    {"profile includes base", includes_point_one_way, "profile/a.cpp", "#include \"base/b.h\"\n", 0},
    {"profile includes http", includes_point_one_way, "profile/a.cpp", "#include \"http/b.h\"\n", 1},
    {"include in a comment", includes_point_one_way, "base/a.h", "/*\n#include \"http/b.h\"\n*/\n", 0},
    {"unknown folder", includes_point_one_way, "extra/a.cpp", "int a;\n", 1},
    {"liburing elsewhere", includes_point_one_way, "core/ring.h", "#include <liburing.h>\n", 1},
    {"liburing at home", includes_point_one_way, "core/ring.cpp", "#include <liburing.h>\n", 0},
    {"thread in http", http_does_no_io, "http/a.h", "#include <thread>\n", 1},
    {"thread in core", http_does_no_io, "core/a.h", "#include <thread>\n", 0},
    {"calendar of dates", http_does_no_io, "http/date.cpp", "#include <chrono>\n", 0},
    {"assert", calls_nothing_banned, "app/a.cpp", "int x;\nassert (x);\n", 2},
    {"static_assert", calls_nothing_banned, "app/a.cpp", "static_assert(true);\n", 0},
    {"assert in a comment", calls_nothing_banned, "app/a.cpp", "// assert(x)\n", 0},
    {"assert in a literal", calls_nothing_banned, "app/a.cpp", "auto x = \"\\\"assert(x)\";\n", 0},
    {"assert in a raw literal", calls_nothing_banned, "app/a.cpp", "auto x = R\"-(\" assert(x))-\";\n", 0},
    {"after a digit separator", calls_nothing_banned, "app/a.cpp", "int x = 1'000; assert(x);\n", 1},
    {"after a quote character", calls_nothing_banned, "app/a.cpp", "char x = '\"'; assert(x);\n", 1},
    {"member of that name", calls_nothing_banned, "app/a.cpp", "it->system(); it.rand();\n", 0},
    {"snprintf", calls_nothing_banned, "base/a.cpp", "std::snprintf(a, 1, b);\n", 0},
    {"printf in base", calls_nothing_banned, "base/a.cpp", "std::printf(a);\n", 1},
    {"printf in app", calls_nothing_banned, "app/a.cpp", "std::printf(a);\n", 0},
    {"sleep in a unit test", calls_nothing_banned, "core/a_test.cpp", "std::this_thread::sleep_for(a);\n", 1},
    {"sleep in a benchmark", calls_nothing_banned, "bench/a.cpp", "std::this_thread::sleep_for(a);\n", 0},
    {"endl", calls_nothing_banned, "app/a.cpp", "out << std::endl;\n", 1},
    {"using namespace std", calls_nothing_banned, "app/a.cpp", "using namespace std;\n", 1},
    {"clock in http", calls_nothing_banned, "http/a.cpp", "auto a = std::chrono::system_clock::now();\n", 1},
    {"no pragma once", headers_are_included_once, "app/a.h", "// #pragma once\nint a;\n", 1},
    {"pragma once", headers_are_included_once, "app/a.h", "// About.\n#pragma once\n", 0},
    {"tab", lines_are_tidy, "app/a.h", "int a;\n\tint b;\n", 2},
    {"trailing blank", lines_are_tidy, "README.md", "a \n", 1},
    {"no final newline", lines_are_tidy, "app/a.h", "int a;\nint b;", 2},
    {"CR LF", lines_are_tidy, "app/a.h", "int a;\r\n", 1},
    {"note", nothing_is_left_behind, "app/a.h", "// TO" "DO: later\n", 1},
    {"template of a name", nothing_is_left_behind, "app/a.h", "auto a = \"/tmp/kiln-XXXXXX\";\n", 0},
    {"merge marker", nothing_is_left_behind, "run", "a\n<<<<" "<<< HEAD\n", 2},
    {"machine path", nothing_is_left_behind, "run", "cd /wo" "rk/main\n", 1},
    {"relative path", nothing_is_left_behind, "README.md", "see net/wo" "rk/x\n", 0},
};

TEST(TidyRules, FindWhatTheyShould) {
  for (const RuleCase& row : kRuleCases) {
    SCOPED_TRACE(row.name);
    Findings findings;
    row.rule(make_source(std::string(row.path), row.text), findings);
    if (row.line == 0) {
      EXPECT_TRUE(findings.empty());
    } else {
      EXPECT_EQ(findings.size(), 1u);
      if (!findings.empty()) {
        EXPECT_EQ(findings[0].line, row.line);
      }
    }
  }
}

TEST(TidyRules, LineLimitCountsCharacters) {
  const auto found = [](const std::string& line) {
    Findings findings;
    lines_are_tidy(make_source("app/a.h", line + "\n"), findings);
    return findings.size();
  };
  std::string wide;
  for (int i = 0; i < 120; ++i) wide += "é";
  EXPECT_EQ(found(std::string(119, 'a')), 0u);
  EXPECT_EQ(found(std::string(120, 'a')), 0u);
  EXPECT_EQ(found(std::string(121, 'a')), 1u);
  EXPECT_EQ(found(wide), 0u);
  EXPECT_EQ(found(wide + "é"), 1u);
}

}  // namespace

// Dialogues between the server and scripted clients (tests/scripted/scripted_server.h), and each of them with something
// going wrong at every place.
#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <string_view>

#include "tests/scripted/scripted_server.h"

namespace kiln::scripted {
namespace {

struct Dialogue {
  std::string_view name;
  std::string_view script;
};

constexpr Dialogue kDialogues[] = {
    {"one request", "0ct gat st"},
    {"byte by byte", "0ct q iiiiiiiiiitiiiiiiiiiitiiiiiiiiiitiiiiiiiiiitiiiiiiiiiitiiiiiiiiiiiiiiiitat st"},
    {"pipelined", "0ct ghpkB at st"},
    {"more than a batch", "0ct gggggggggggggggggggg at st st"},
    {"a request behind an answer that is being sent", "0ct gat gat st"},
    {"two batches behind an answer that is being sent", "0ct gat ggggggggggggat ggggggggggggat st st st"},
    {"a large answer in pieces", "0ct oat st st st st st st st"},
    {"a body in chunks", "0ct kjtjtjtat st"},
    {"a long body in pieces", "0ct latatat st st st"},
    {"told to go on", "0ct wat st at st"},
    {"last request", "0ct gqg at st"},
    {"refused, with more behind", "0ct pxgg at st"},
    {"too large", "0ct Xp at st at"},
    {"half-closed behind a request", "0ct pkF at at st"},
    {"half-closed in a request", "0ct gp jjt f at st"},
    {"without a buffer", "0ct gat st g Nt tat st"},
    {"interrupted", "0ct gIt Gt Kt at st"},
    {"overflow", "0Ct gat st gAt st gAt st"},
    {"back-pressure", "0ct oat ppppppppppppppppppppppat at Kt st st st st st st st"},
    {"two clients, one slot after the other", "0ct pat st Fat 1ct ~t pat st"},
    {"over the cap", "0c1c2c3c4c5ct6ctVt0gat st Fat 6ct gat st"},
    {"full queue", "^0ct^t g^at^at st"},
    {"too slow with a head", "0ct giiit ;t;t st at"},
    {"idle", "0ct gat st ;t;t;t"},
};

void hold(const std::string& script) {
  explain_aborts("play it with connection_fuzz");
  run_script(script);
}

TEST(Dialogues, EndWell) {
  for (const Dialogue& dialogue : kDialogues) {
    hold(std::string(dialogue.script));
    hold("+" + std::string(dialogue.script));
  }
}

// The peer resets, half-closes, fails; sends are cut; buffers, descriptors and completions run out; time passes; the
// server drains or halts: whenever it is.
TEST(Dialogues, EndWellWithAnyEventAtAnyStep) {
  constexpr std::string_view kDisturbances[] = {"r",  "*t", "f", "F", "St", "N",  "K",
                                                "et", ";t", "!", "#", "^",  "~t", "$"};
  size_t played = 0;
  for (const Dialogue& dialogue : kDialogues) {
    for (const std::string_view disturbance : kDisturbances) {
      for (size_t step = 0; step <= dialogue.script.size(); ++step) {
        std::string script(dialogue.script);
        if (step < script.size() && script[step] == ' ') continue;
        hold(script.insert(step, disturbance));
        ++played;
      }
    }
  }
  std::printf("%zu dialogues\n", played);
}

// Each shows what once went wrong.
constexpr Dialogue kRegressions[] = {
    {"a body has its own time, whatever the one before it took",
     "0ct p it iiiiiiiiiiiiiiiiiiii iiiiiiiiiiiiiiiiiiii iiiiiiiiiiiiiiiiiiii iiiiiiiiiiiiiiiiiiii t ;t llatst.t.t"},
    {"a drain answers what arrived behind an answer that was being sent", "0ct gat gat ! st st"},
    {"a head that begins after the drain has its time", "0ct !t g it .t.t.t at st"},
    {"a client accepted after the halt is not kept", "t 0c # t"},
};

TEST(Dialogues, StayRight) {
  for (const Dialogue& dialogue : kRegressions) hold(std::string(dialogue.script));
}

}  // namespace
}  // namespace kiln::scripted

// Other ways to burn CPU, each of a few lines, for bench/burn/table. They are written as one finds them in demos and
// tools, faults included: that is what is compared.
//
//   peers burns wall             until a deadline of the wall clock
//   peers burns fixed            Kiln's chain, as many steps as took so long when it was calibrated at the start
//   peers burns sqrt             the loop of the PHP demo of Kubernetes' autoscaling, calibrated the same way
//   peers duty CORES PERIOD_MS   busy for CORES of each period, by the wall clock
//   peers consume CORES          the idea of Kubernetes' resource-consumer: busy while the average since the start is
//                                below CORES, else asleep for 10 ms
//   peers hog                    busy
//
// "burns" obeys the commands of commands.h. Burns that come at intervals are taken by four threads, as a server with a
// thread a request would. All but "burns" end after an hour at the latest.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/quantity.h"
#include "bench/burn/commands.h"
#include "burn/work.h"

namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using Clock = std::chrono::steady_clock;
using Burn = std::function<void(nanoseconds)>;

constexpr int kThreads = 4;
constexpr auto kLongest = 1h;

void burn_wall(nanoseconds each) {
  const auto end = Clock::now() + each;
  while (Clock::now() < end) kiln::burn::work(100);
}

// for ($i = 0; $i <= 1000000; $i++) { $x += sqrt($x); }
void add_square_roots(uint64_t steps) {
  double x = 0.0001;
  for (uint64_t i = 0; i < steps; ++i) x += std::sqrt(x);
  asm volatile("" : : "x"(x));
}

// A burn of as many steps as took `each` now, once and for all sizes.
Burn calibrate(void (*loop)(uint64_t steps)) {
  constexpr uint64_t kSteps = 10'000'000;
  loop(kSteps);  // lets the clock frequency rise
  const nanoseconds before = kiln::burn::thread_cpu_time();
  loop(kSteps);
  const nanoseconds took = kiln::burn::thread_cpu_time() - before;
  const double steps_a_nanosecond = static_cast<double>(kSteps) / static_cast<double>(took.count());
  return [=](nanoseconds each) { loop(static_cast<uint64_t>(static_cast<double>(each.count()) * steps_a_nanosecond)); };
}

void burn_at_intervals(const Burn& burn, const kiln::bench::BurnCommand& command) {
  const auto start = Clock::now();
  std::atomic<int64_t> next{0};
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int64_t mine = next++; mine < command.count; mine = next++) {
        std::this_thread::sleep_until(start + mine * command.interval);
        burn(command.each);
      }
    });
  }
}

int obey(const Burn& burn) {
  return kiln::bench::obey_commands([&](const kiln::bench::BurnCommand& command) {
    if (command.interval > 0ns) return burn_at_intervals(burn, command);
    for (int64_t i = 0; i < command.count; ++i) burn(command.each);
  });
}

void duty_cycle(double cores, nanoseconds period) {
  const auto busy = std::chrono::duration_cast<nanoseconds>(period * cores);
  const auto end = Clock::now() + kLongest;
  for (auto start = Clock::now(); start < end; start += period) {
    std::this_thread::sleep_until(start);
    while (Clock::now() < start + busy) kiln::burn::work(100);
  }
}

nanoseconds process_cpu_time() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + nanoseconds(now.tv_nsec);
}

void consume(double cores) {
  const auto start = Clock::now();
  const nanoseconds before = process_cpu_time();
  while (Clock::now() < start + kLongest) {
    const auto wall = Clock::now() - start;
    if (process_cpu_time() - before < std::chrono::duration<double, std::nano>(wall) * cores) {
      kiln::burn::work(2'000'000);
    } else {
      std::this_thread::sleep_for(10ms);
    }
  }
}

void hog() {
  const auto end = Clock::now() + kLongest;
  while (Clock::now() < end) kiln::burn::work(1'000'000);
}

int usage() {
  std::fputs("usage: peers burns wall|fixed|sqrt, duty CORES PERIOD_MS, consume CORES, or hog\n", stderr);
  return EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string_view> arguments(argv + 1, argv + argc);
  if (arguments.empty()) return usage();
  std::vector<double> numbers;
  for (const std::string_view text : arguments) numbers.push_back(kiln::base::parse_decimal(text).value_or(0));
  const std::string_view what = arguments[0];
  if (what == "burns" && arguments.size() == 2) {
    if (arguments[1] == "wall") return obey(burn_wall);
    if (arguments[1] == "fixed") return obey(calibrate(kiln::burn::work));
    if (arguments[1] == "sqrt") return obey(calibrate(add_square_roots));
    return usage();
  }
  if (what == "duty" && arguments.size() == 3 && numbers[1] > 0 && numbers[2] > 0) {
    duty_cycle(numbers[1], std::chrono::duration_cast<nanoseconds>(numbers[2] * 1ms));
  } else if (what == "consume" && arguments.size() == 2 && numbers[1] > 0) {
    consume(numbers[1]);
  } else if (what == "hog" && arguments.size() == 1) {
    hog();
  } else {
    return usage();
  }
  return EXIT_SUCCESS;
}

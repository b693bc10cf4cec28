# The presets let eight tests run at a time, since most of those of the whole program wait, for schedules, drains and
# timeouts. A test that computes counts as so many of them (PROCESSORS): two such are enough for two cores. What takes
# long says so (COST, in seconds): it begins early where no earlier run has left its times.
set(KILN_BUSY 3)

# add_module(name SOURCES .. DEPS .. LIBS .. TESTS ..): one static library kiln_<name> a folder, so that the link graph
# is the dependency graph. DEPS are modules of ours, LIBS installed packages, TESTS become one program with the ctest
# label <name>.
function(add_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPS;LIBS;TESTS")
  add_library(kiln_${name} STATIC ${arg_SOURCES})
  list(TRANSFORM arg_DEPS PREPEND kiln_)
  target_link_libraries(kiln_${name} PUBLIC kiln_flags ${arg_DEPS} ${arg_LIBS})
  if(arg_TESTS AND BUILD_TESTING AND NOT KILN_FUZZ)
    add_executable(${name}_test ${arg_TESTS})
    target_link_libraries(${name}_test PRIVATE kiln_${name} GTest::gtest_main GTest::gmock)
    build_for_tests(${name}_test)
    gtest_discover_tests(${name}_test PROPERTIES LABELS ${name} TIMEOUT 120 PROCESSORS ${KILN_BUSY}
      DISCOVERY_TIMEOUT 60)
  endif()
endfunction()

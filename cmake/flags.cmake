# What every translation unit is compiled with.
add_library(kiln_flags INTERFACE)
target_compile_features(kiln_flags INTERFACE cxx_std_23)
target_include_directories(kiln_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(kiln_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Wold-style-cast)
# gcc 12 sees overlapping copies in operator+(const char*, std::string&&) that are not there (gcc bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(kiln_flags INTERFACE -Wno-restrict)
endif()
# libstdc++ shows its <expected> only to compilers that name this version of concepts, which clang does from 19 on.
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 19)
  target_compile_definitions(kiln_flags INTERFACE __cpp_concepts=202002L)
  target_compile_options(kiln_flags INTERFACE -Wno-macro-redefined -Wno-builtin-macro-redefined)
endif()
# Bounds checks of the standard library's containers: a wrong index stops the program instead of reading on.
target_compile_definitions(kiln_flags INTERFACE _GLIBCXX_ASSERTIONS)

# build_for_tests(target): what is no part of the program.
#
# The optimisation of the whole program is for what is shipped: each test's program would compile its modules anew when
# it is linked. So the modules' objects hold code as well, beside what the optimiser goes on from. And under a sanitizer
# the tests' own code is not optimised: that takes half the time to compile, and hides nothing from the sanitizer.
set(KILN_TESTS_APART OFF)
if(CMAKE_INTERPROCEDURAL_OPTIMIZATION AND BUILD_TESTING AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(KILN_TESTS_APART ON)
  target_compile_options(kiln_flags INTERFACE -ffat-lto-objects)
endif()
function(build_for_tests target)
  if(KILN_TESTS_APART)
    set_target_properties(${target} PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF)
    target_link_options(${target} PRIVATE -fno-lto)
  endif()
  if(CMAKE_CXX_FLAGS MATCHES "-fsanitize" AND NOT KILN_FUZZ)
    target_compile_options(${target} PRIVATE -O0)
  endif()
endfunction()

set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

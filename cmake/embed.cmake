# embed_text(target file name): builds the text file `file` (relative to the top of the tree) into `target`, as
#
#   #include "<file>.h"        // declares: namespace a::b { extern const std::string_view kName; }
#
# for a `name` of a::b::kName. The bytes are the file's own; an edit rebuilds. For example
#
#   embed_text(kiln_app web/index.html kiln::app::kIndexHtml)      →      #include "web/index.html.h"
#
# The same file is the script that the build runs, so that cmake is all it takes.
if(CMAKE_SCRIPT_MODE_FILE AND CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  # Escapes, since a byte above 0x7f as a number does not fit into a char; lines, so that a message quotes a short one.
  file(READ "${INPUT}" bytes HEX)
  string(REGEX REPLACE "(................................)" "\\1\n  " bytes "${bytes}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${bytes}")
  string(REGEX REPLACE "^(.*)::([^:]+)$" "\\1;\\2" parts "${NAME}")
  list(GET parts 0 namespace)
  list(GET parts 1 variable)
  # The closing NUL gives an empty file an array of legal size; the view leaves it out.
  file(WRITE "${OUTPUT}" "#include \"${HEADER}\"

namespace {
constexpr char kBytes[] = {
  ${bytes}'\\0'};
}

namespace ${namespace} {
constinit const std::string_view ${variable}{kBytes, sizeof kBytes - 1};
}
")
  return()
endif()

set(KILN_EMBED_SCRIPT "${CMAKE_CURRENT_LIST_FILE}")

function(embed_text target file name)
  set(directory "${CMAKE_CURRENT_BINARY_DIR}/embedded")
  string(REGEX REPLACE "^(.*)::([^:]+)$" "\\1;\\2" parts "${name}")
  list(GET parts 0 namespace)
  list(GET parts 1 variable)
  file(CONFIGURE OUTPUT "${directory}/${file}.h" @ONLY CONTENT [[
#pragma once

#include <string_view>

namespace @namespace@ {
extern const std::string_view @variable@;
}
]])
  add_custom_command(
    OUTPUT "${directory}/${file}.cpp"
    DEPENDS "${PROJECT_SOURCE_DIR}/${file}" "${KILN_EMBED_SCRIPT}"
    COMMAND "${CMAKE_COMMAND}" "-DINPUT=${PROJECT_SOURCE_DIR}/${file}" "-DOUTPUT=${directory}/${file}.cpp"
      "-DHEADER=${file}.h" "-DNAME=${name}" -P "${KILN_EMBED_SCRIPT}"
    COMMENT "Embedding ${file}" VERBATIM)
  target_sources(${target} PRIVATE "${directory}/${file}.cpp")
  target_include_directories(${target} PRIVATE "${directory}")
endfunction()

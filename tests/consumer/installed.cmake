# SPDX-License-Identifier: Apache-2.0
# Installs the build, moves the prefix, and builds and runs the copyable example against it, linked with --as-needed.
# cmake -D source=DIR -D build=DIR -D work=DIR -D compiler=PATH -P installed.cmake
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE ${work})
file(MAKE_DIRECTORY ${work})
run(${CMAKE_COMMAND} --install ${build} --prefix ${work}/first)
file(RENAME ${work}/first ${work}/moved)
file(COPY ${source}/docs/examples/train_lm DESTINATION ${work})

run(${CMAKE_COMMAND} -S ${work}/train_lm -B ${work}/build -G Ninja -D CMAKE_BUILD_TYPE=Release
    -D CMAKE_CXX_COMPILER=${compiler} -D CMAKE_PREFIX_PATH=${work}/moved -D CMAKE_EXE_LINKER_FLAGS=-Wl,--as-needed)
run(${CMAKE_COMMAND} --build ${work}/build)
run(${work}/build/own_op)
run(${work}/build/train_lm ${source}/LICENSE WORKING_DIRECTORY ${work})
run(${work}/moved/bin/mahia --version)

file(GLOB configs ${work}/moved/share/mahia/configs/*.toml)
if(NOT configs)
  message(FATAL_ERROR "no configurations in share/mahia/configs")
endif()
file(GLOB_RECURSE exported ${work}/moved/*.cmake)
foreach(file ${exported})
  file(READ ${file} text)
  foreach(path ${source} ${build} ${work}/first)
    string(FIND "${text}" ${path} found)
    if(NOT found EQUAL -1)
      message(FATAL_ERROR "${file} mentions ${path}, so the package cannot be moved")
    endif()
  endforeach()
endforeach()

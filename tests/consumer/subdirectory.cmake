# SPDX-License-Identifier: Apache-2.0
# Builds and runs a project that takes mahia in with add_subdirectory and has a core/tensor.hpp of its own. The compiler
# flags are those of the build under test, so that ccache answers for mahia's own sources.
# cmake -D source=DIR -D work=DIR -D compiler=PATH -D build_type=TYPE -D werror=ON|OFF -P subdirectory.cmake
unset(ENV{CCACHE_BASEDIR})  # paths as they are: made relative to another build folder they would all be new to ccache

function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

run(${CMAKE_COMMAND} -S ${source}/tests/consumer/subdirectory -B ${work} -G Ninja -D CMAKE_BUILD_TYPE=${build_type}
    -D CMAKE_CXX_COMPILER=${compiler} -D MAHIA_CUDA=OFF -D MAHIA_WERROR=${werror}
    -D CMAKE_EXE_LINKER_FLAGS=-Wl,--as-needed)
run(${CMAKE_COMMAND} --build ${work} --target consumer)
run(${work}/consumer)

# SPDX-License-Identifier: Apache-2.0
# What users take away: each public header on its own, the C++ in the documents, the installed package, add_subdirectory.

# Every public header must compile with nothing before it and without the root as include folder.
set(alone "")
foreach(layer core autograd ops nn train)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/${layer}/*.hpp)
  list(FILTER headers EXCLUDE REGEX "^train/main_")
  foreach(header ${headers})
    set(path ${CMAKE_BINARY_DIR}/headers_alone/${header}.cpp)
    file(CONFIGURE OUTPUT ${path} CONTENT "#include \"${PROJECT_SOURCE_DIR}/${header}\"\n" @ONLY)
    list(APPEND alone ${path})
  endforeach()
endforeach()
add_library(headers_alone OBJECT EXCLUDE_FROM_ALL ${alone})
target_compile_options(headers_alone PRIVATE $<TARGET_PROPERTY:mahia_options,INTERFACE_COMPILE_OPTIONS>)
target_compile_features(headers_alone PRIVATE cxx_std_20)

file(GLOB pages CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/docs/*.md)
file(REMOVE_RECURSE ${CMAKE_BINARY_DIR}/snippets)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/snippets)
set(snippets "")
foreach(page ${pages})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${page})
  get_filename_component(name ${page} NAME_WE)
  execute_process(COMMAND awk -v out=${CMAKE_BINARY_DIR}/snippets/${name} -f ${CMAKE_CURRENT_LIST_DIR}/snippets.awk ${page}
                  OUTPUT_VARIABLE sources COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]+" sources "${sources}")
  list(APPEND snippets ${sources})
endforeach()
add_library(snippets OBJECT EXCLUDE_FROM_ALL ${snippets})
target_link_libraries(snippets PRIVATE mahia::mahia Boost::unit_test_framework)
target_include_directories(snippets PRIVATE ${PROJECT_SOURCE_DIR})  # pages about mahia's own files include from the root

foreach(target headers_alone snippets)
  add_test(NAME ${target}_compile COMMAND ${CMAKE_COMMAND} --build ${CMAKE_BINARY_DIR} --target ${target})
endforeach()
add_test(NAME consumer_of_the_moved_package
         COMMAND ${CMAKE_COMMAND} -D source=${PROJECT_SOURCE_DIR} -D build=${CMAKE_BINARY_DIR}
                 -D work=${CMAKE_BINARY_DIR}/consumer/installed -D compiler=${CMAKE_CXX_COMPILER}
                 -P ${CMAKE_CURRENT_LIST_DIR}/consumer/installed.cmake)
add_test(NAME consumer_by_add_subdirectory
         COMMAND ${CMAKE_COMMAND} -D source=${PROJECT_SOURCE_DIR} -D work=${CMAKE_BINARY_DIR}/consumer/subdirectory
                 -D compiler=${CMAKE_CXX_COMPILER} -D build_type=${CMAKE_BUILD_TYPE} -D werror=${MAHIA_WERROR}
                 -P ${CMAKE_CURRENT_LIST_DIR}/consumer/subdirectory.cmake)
set_tests_properties(headers_alone_compile snippets_compile consumer_of_the_moved_package consumer_by_add_subdirectory
                     PROPERTIES LABELS slow RESOURCE_LOCK build_tree TIMEOUT 900)

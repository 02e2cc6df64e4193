# ExecuTorch for Android, as find_package(executorch) gives it on a desktop: the same target names over the
# library and the headers of the npm package that tools/native.py unpacks.
#   BLOCKFFN_EXECUTORCH_ANDROID   folder with include/ and lib/libexecutorch_jni.so
set(executorch_FOUND ON)
if(NOT TARGET executorch::runtime)
  add_library(executorch::runtime SHARED IMPORTED GLOBAL)
  set_target_properties(executorch::runtime PROPERTIES
    IMPORTED_LOCATION "${BLOCKFFN_EXECUTORCH_ANDROID}/lib/libexecutorch_jni.so"
    INTERFACE_INCLUDE_DIRECTORIES "${BLOCKFFN_EXECUTORCH_ANDROID}/include"
    # The library's own build: without the macro, c10 asks for a generated header that no package carries.
    INTERFACE_COMPILE_DEFINITIONS "C10_USING_CUSTOM_GENERATED_MACROS;ET_LOG_ENABLED=1;ET_MIN_LOG_LEVEL=Info")
  add_library(executorch::threadpool INTERFACE IMPORTED GLOBAL)
  target_link_libraries(executorch::threadpool INTERFACE executorch::runtime)
endif()

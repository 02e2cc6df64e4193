# Builds for Android with the clang of PyPI's ziglang package: no NDK is needed.
#   ANDROID_ABI         arm64-v8a or x86_64
#   BLOCKFFN_ZIG        the package's `zig`
#   BLOCKFFN_SYSROOT    what tools/native.py prepares for this ABI: stub libraries, start files, libunwind
# The C headers are musl's, which agree with bionic's on 64-bit processors except for what include/
# corrects; the C++ headers are zig's libc++, in the namespace of the NDK's, whose code is in
# libexecutorch_jni.so.
set(CMAKE_SYSTEM_NAME Linux)  # CMake's own "Android" asks for an NDK
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ANDROID_ABI BLOCKFFN_ZIG BLOCKFFN_SYSROOT)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)

if(ANDROID_ABI STREQUAL "arm64-v8a")
  set(CMAKE_SYSTEM_PROCESSOR aarch64)
  # Outline atomics need a function of the NDK's compiler library.
  set(blockffn_machine "-march=armv8-a -mno-outline-atomics")
  set(blockffn_emulation aarch64linux)
elseif(ANDROID_ABI STREQUAL "x86_64")
  set(CMAKE_SYSTEM_PROCESSOR x86_64)
  set(blockffn_machine "-march=x86-64-v2")  # what Android's ABI promises
  set(blockffn_emulation elf_x86_64)
else()
  message(FATAL_ERROR "ANDROID_ABI is '${ANDROID_ABI}'; name arm64-v8a or x86_64")
endif()

set(CMAKE_C_COMPILER ${BLOCKFFN_ZIG} clang)
set(CMAKE_CXX_COMPILER ${BLOCKFFN_ZIG} clang)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_FIND_ROOT_PATH ${BLOCKFFN_SYSROOT})  # what this machine has installed is for this machine
foreach(kind INCLUDE LIBRARY)
  set(CMAKE_FIND_ROOT_PATH_MODE_${kind} ONLY)
endforeach()
set(CMAKE_SKIP_RPATH ON)

get_filename_component(blockffn_lib ${BLOCKFFN_ZIG} DIRECTORY)
set(blockffn_lib "${blockffn_lib}/lib")
set(blockffn_here "${CMAKE_CURRENT_LIST_DIR}")
set(blockffn_libc "-isystem \"${blockffn_lib}/include\"")
foreach(folder ${CMAKE_SYSTEM_PROCESSOR}-linux-musl generic-musl ${CMAKE_SYSTEM_PROCESSOR}-linux-any any-linux-any)
  string(APPEND blockffn_libc " -isystem \"${blockffn_lib}/libc/include/${folder}\"")
endforeach()
set(blockffn_flags "--target=${CMAKE_SYSTEM_PROCESSOR}-linux-android26 ${blockffn_machine} -nostdinc -g0 \
-ffunction-sections -fdata-sections -fstack-protector-strong -Wno-unused-command-line-argument \
\"-ffile-prefix-map=${blockffn_lib}=zig\" -isystem \"${blockffn_here}/include\"")
set(CMAKE_C_FLAGS_INIT "${blockffn_flags} ${blockffn_libc}")
set(CMAKE_CXX_FLAGS_INIT "${blockffn_flags} -include \"${blockffn_here}/include/__config_site\" \
-isystem \"${blockffn_lib}/libcxx/include\" -isystem \"${blockffn_lib}/libcxxabi/include\" ${blockffn_libc}")

# The linker is called directly: clang would look for one outside the package. 16 KB pages, as Android 15
# asks for. Symbols of the archives stay inside, so that no other library of a process can replace them.
set(blockffn_link "\"${BLOCKFFN_ZIG}\" ld.lld -m ${blockffn_emulation} --eh-frame-hdr --build-id=sha1 -z now -z relro \
-z noexecstack -z max-page-size=16384 --hash-style=gnu --gc-sections --no-undefined --as-needed \
--exclude-libs=ALL \"-L${BLOCKFFN_SYSROOT}/lib\"")
set(blockffn_system "\"${BLOCKFFN_SYSROOT}/lib/libruntime.a\" -llog -lm -ldl -lc")
foreach(language C CXX)
  set(CMAKE_${language}_ARCHIVE_CREATE "\"${BLOCKFFN_ZIG}\" ar qc <TARGET> <OBJECTS>")
  set(CMAKE_${language}_ARCHIVE_FINISH "")
  set(CMAKE_${language}_CREATE_SHARED_LIBRARY "${blockffn_link} -shared -soname <TARGET_SONAME> -o <TARGET> \
\"${BLOCKFFN_SYSROOT}/lib/crtbegin_so.o\" <OBJECTS> <LINK_LIBRARIES> ${blockffn_system}")
  set(CMAKE_${language}_LINK_EXECUTABLE "${blockffn_link} -pie -dynamic-linker /system/bin/linker64 -o <TARGET> \
\"${BLOCKFFN_SYSROOT}/lib/crtbegin_dynamic.o\" <OBJECTS> <LINK_LIBRARIES> ${blockffn_system}")
endforeach()

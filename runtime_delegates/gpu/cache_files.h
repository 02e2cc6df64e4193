// Small files that outlive a process, in $BLOCKFFN_CACHE_DIR, else in $XDG_CACHE_HOME/blockffn or ~/.cache/blockffn.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace blockffn::gpu {

// The path of a file of that name; its directory is made if it is missing. Empty where there is no home.
std::string cache_file(const std::string& name);

// Whole contents with a checksum, written beside the file and renamed: a reader sees all of it or nothing. What is cut
// off or damaged reads as nothing. Failures are silent: what is kept here only saves time.
void write_checked(const std::string& path, const std::vector<uint8_t>& contents);
std::vector<uint8_t> read_checked(const std::string& path);

}  // namespace blockffn::gpu

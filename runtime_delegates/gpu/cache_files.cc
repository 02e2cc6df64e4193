#include "cache_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace blockffn::gpu {
namespace {

constexpr char kMagic[8] = {'B', 'F', 'C', 'A', 'C', 'H', 'E', '1'};
constexpr size_t kHeader = 16, kMostBytes = size_t{64} << 20;

uint64_t checksum(const std::vector<uint8_t>& bytes) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (uint8_t b : bytes) hash = (hash ^ b) * 0x100000001b3u;
  return hash;
}

}  // namespace

std::string cache_file(const std::string& name) {
  const auto variable = [](const char* v) {
    const char* value = std::getenv(v);
    return std::string(value == nullptr ? "" : value);
  };
  std::string directory = variable("BLOCKFFN_CACHE_DIR");
  if (directory.empty()) {
    std::string base = variable("XDG_CACHE_HOME");
    if (base.empty()) {
      base = variable("HOME");
      if (base.empty()) return "";
      base += "/.cache";
      mkdir(base.c_str(), 0755);
    }
    directory = base + "/blockffn";
  }
  mkdir(directory.c_str(), 0755);
  return directory + "/" + name;
}

void write_checked(const std::string& path, const std::vector<uint8_t>& contents) {
  if (path.empty()) return;
  const std::string part = path + ".part" + std::to_string(getpid());
  FILE* file = std::fopen(part.c_str(), "wb");
  if (file == nullptr) return;
  const uint64_t sum = checksum(contents);
  const bool written = std::fwrite(kMagic, 1, 8, file) == 8 && std::fwrite(&sum, 1, 8, file) == 8 &&
                       std::fwrite(contents.data(), 1, contents.size(), file) == contents.size();
  if (std::fclose(file) != 0 || !written || std::rename(part.c_str(), path.c_str()) != 0) std::remove(part.c_str());
}

std::vector<uint8_t> read_checked(const std::string& path) {
  std::vector<uint8_t> bytes;
  FILE* file = path.empty() ? nullptr : std::fopen(path.c_str(), "rb");
  if (file == nullptr) return bytes;
  uint8_t header[kHeader], block[4096];
  uint64_t sum = 0;
  bool good = std::fread(header, 1, kHeader, file) == kHeader && std::memcmp(header, kMagic, 8) == 0;
  std::memcpy(&sum, header + 8, 8);
  while (good) {
    const size_t n = std::fread(block, 1, sizeof block, file);
    bytes.insert(bytes.end(), block, block + n);
    good = bytes.size() <= kMostBytes;
    if (n < sizeof block) break;
  }
  std::fclose(file);
  if (!good || checksum(bytes) != sum) bytes.clear();
  return bytes;
}

}  // namespace blockffn::gpu

#include "mapped.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>

namespace blockffn::gpu {
namespace {

std::mutex mutex;

// From where to where. Made on first use and never destroyed: files may be mapped before a library's constructors have
// run, and unmapped behind its destructors.
std::map<uintptr_t, uintptr_t>& mappings() {
  static auto& all = *new std::map<uintptr_t, uintptr_t>;
  return all;
}

}  // namespace

void add_mapping(const void* data, uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto start = reinterpret_cast<uintptr_t>(data);
  mappings()[start] = start + static_cast<uintptr_t>(bytes);
}

void remove_mapping(const void* data) {
  const std::lock_guard<std::mutex> lock(mutex);
  mappings().erase(reinterpret_cast<uintptr_t>(data));
}

std::vector<MappedWindow> mapped_windows(std::vector<Weight> weights, uint64_t most, uint64_t align) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  std::sort(weights.begin(), weights.end(), [](const Weight& a, const Weight& b) { return a.data < b.data; });
  std::vector<MappedWindow> windows;
  uintptr_t mapping = 0;  // of the last window
  const std::lock_guard<std::mutex> lock(mutex);
  for (const Weight& w : weights) {
    const auto at = reinterpret_cast<uintptr_t>(w.data), end = at + static_cast<uintptr_t>(w.bytes);
    auto found = mappings().upper_bound(at);
    if (w.bytes == 0 || at % align != 0 || found == mappings().begin()) continue;
    if (--found; end > found->second) continue;
    const uintptr_t first = at / page * page, last = (end + page - 1) / page * page;
    if (last - first > most) continue;
    auto start = windows.empty() ? 0 : reinterpret_cast<uintptr_t>(windows.back().start);
    if (windows.empty() || mapping != found->first || last - start > most) {
      windows.push_back({reinterpret_cast<const uint8_t*>(first), 0, {}});
      mapping = found->first;
      start = first;
    }
    windows.back().bytes = std::max<uint64_t>(windows.back().bytes, last - start);
    windows.back().weights.push_back(w);
  }
  return windows;
}

}  // namespace blockffn::gpu

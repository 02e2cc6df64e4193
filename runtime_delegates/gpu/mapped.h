// Weights in memory that is mapped from files: a GPU that shares the CPU's memory may read them where they lie.
#pragma once

#include <cstdint>
#include <vector>

namespace blockffn::gpu {

// All pages that [data, data + bytes) touches belong to one mapping of a file, and stay mapped until it is removed.
// Whoever unmaps a file removes it first; programs of the file, and so their steps and buffers, are gone by then.
void add_mapping(const void* data, uint64_t bytes);
void remove_mapping(const void* data);

struct Weight {
  const uint8_t* data;
  uint64_t bytes;
};

// Whole pages of one mapping, with what lies in them.
struct MappedWindow {
  const uint8_t* start;
  uint64_t bytes;
  std::vector<Weight> weights;
};

// As few windows of at most `most` bytes as hold every weight that is mapped and begins at a multiple of `align`; the
// others are in none. Neighbours share a window, also where a gap lies between them.
std::vector<MappedWindow> mapped_windows(std::vector<Weight> weights, uint64_t most, uint64_t align);

}  // namespace blockffn::gpu

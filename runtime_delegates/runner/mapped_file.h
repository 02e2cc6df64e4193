// A file, or a range of an open descriptor, mapped for reading: never copied, never locked in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "blockffn_runner.h"

namespace blockffn::runner {

class MappedFile {
 public:
  // Throws Failure(BLOCKFFN_BAD_PROGRAM) with a sentence that starts with name(). The descriptor may be
  // closed afterwards. A range that does not start at a page starts inside the mapping's first page.
  MappedFile(const blockffn_file& file, const char* what);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  const std::string& name() const { return name_; }  // the path, or what it holds

 private:
  void* mapping_ = nullptr;
  size_t mapping_bytes_ = 0;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  std::string name_;
};

}  // namespace blockffn::runner

#include "mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "failure.h"

namespace blockffn::runner {
namespace {

struct Descriptor {
  int fd;
  bool ours;
  ~Descriptor() {
    if (ours && fd >= 0) ::close(fd);
  }
};

}  // namespace

MappedFile::MappedFile(const blockffn_file& file, const char* what)
    : name_(file.path != nullptr ? file.path : std::string("the ") + what) {
  const auto bad = [&](const std::string& why) { throw Failure{BLOCKFFN_BAD_PROGRAM, name_ + ": " + why}; };
  // A pipe would wait for its writer to be opened, and is refused below.
  const Descriptor descriptor{file.path != nullptr ? ::open(file.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : file.fd,
                              file.path != nullptr};
  struct stat status;
  if (descriptor.fd < 0 && file.path == nullptr) bad("neither a path nor a descriptor was given");
  if (descriptor.fd < 0 || ::fstat(descriptor.fd, &status) != 0) bad(std::string(std::strerror(errno)) + "; name an existing file");
  if (!S_ISREG(status.st_mode)) bad("not a regular file, so it cannot be mapped; name a file");
  const auto whole = static_cast<int64_t>(status.st_size);
  if (file.offset < 0 || file.bytes < 0) bad("a range of the file starts or ends before its beginning");
  if (file.offset > whole || (file.bytes > 0 && file.bytes > whole - file.offset))
    bad("truncated: the range from byte " + std::to_string(file.offset) + " on, " + std::to_string(file.bytes) +
        " bytes long, is not inside the " + std::to_string(whole) + " bytes of the file; copy it again");
  size_ = static_cast<size_t>(file.bytes > 0 ? file.bytes : whole - file.offset);
  if (size_ == 0) bad("empty; copy it again");
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  const int64_t start = file.offset / page * page, inside = file.offset - start;
  mapping_bytes_ = size_ + static_cast<size_t>(inside);
  // Shared: Metal then sees the file's own pages, nothing that might be copied on a write.
  mapping_ = ::mmap(nullptr, mapping_bytes_, PROT_READ, MAP_SHARED, descriptor.fd, static_cast<off_t>(start));
  if (mapping_ == MAP_FAILED) bad(std::string("cannot be mapped (") + std::strerror(errno) + ")");
  data_ = static_cast<const uint8_t*>(mapping_) + inside;
}

MappedFile::~MappedFile() {
  if (mapping_ != nullptr && mapping_ != MAP_FAILED) ::munmap(mapping_, mapping_bytes_);
}

}  // namespace blockffn::runner

// How many threads pay: one per fast core. A chunk's items are handed out as threads ask for them, so a
// slow core would not hold up the others for long, but it takes memory bandwidth and battery from them.
#include <cstdio>
#if defined(__linux__)
#include <sched.h>
#else
#include <unistd.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include "contract.h"

namespace blockffn {

int big_cores(const char* sysfs_cpu) {
#if defined(__linux__)
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
  long fastest = 0, frequency[CPU_SETSIZE] = {};
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    char path[512];
    std::snprintf(path, sizeof path, "%s/cpu%d/cpufreq/cpuinfo_max_freq", sysfs_cpu, cpu);
    std::FILE* file = std::fopen(path, "r");
    if (file == nullptr) continue;
    if (std::fscanf(file, "%ld", &frequency[cpu]) != 1) frequency[cpu] = 0;
    std::fclose(file);
    if (frequency[cpu] > fastest) fastest = frequency[cpu];
  }
  int cores = 0;  // without frequencies, as in virtual machines, all of them count
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &allowed) && frequency[cpu] >= fastest - fastest / 5) ++cores;
  return cores < 1 ? 1 : cores;
#else
  (void)sysfs_cpu;
#if defined(__APPLE__)
  int fast = 0;
  size_t size = sizeof fast;
  if (sysctlbyname("hw.perflevel0.physicalcpu", &fast, &size, nullptr, 0) == 0 && fast > 0) return fast;
#endif
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online < 1 ? 1 : static_cast<int>(online);
#endif
}

}  // namespace blockffn

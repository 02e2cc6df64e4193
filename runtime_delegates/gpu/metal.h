// Metal, through the functions that an app has lent (blockffn_metal.h).
#pragma once

#include "device.h"

namespace blockffn::gpu {

uint64_t metal_lent();  // which lending this is, from 1 on; 0: none
Status open_metal(const Faults& faults, std::unique_ptr<Device>* out);

}  // namespace blockffn::gpu

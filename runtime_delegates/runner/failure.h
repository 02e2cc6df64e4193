// The one exception of the runner; the C interface turns it into a code and a sentence.
#pragma once

#include <string>

#include "blockffn_runner.h"

namespace blockffn::runner {

struct Failure {
  blockffn_runner_code code;
  std::string message;
};

}  // namespace blockffn::runner

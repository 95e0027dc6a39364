// LongCat-Flash: mixture of experts. Reference: mlx-lm, models/longcat_flash.py.
// Against DeepSeek-V3: every layer attends twice, and its mixture takes a short cut around the second half; some
// experts return what they are given.

#include "longcat.h"

namespace mlxk {
namespace {

class LongcatFlash final : public LongcatDecoder {
 public:
  LongcatFlash(const ConfigReader& reader, const Weights& w) : LongcatDecoder(LongcatConfig(reader), w) {
    w["model"]["mtp"].discard();  // predicts further tokens ahead; nothing here runs it
  }
};

}  // namespace

MLXK_MODEL(LongcatFlash, "longcat_flash");

}  // namespace mlxk

// LongCat-Flash with n-gram embeddings: mixture of experts. Reference: mlx-lm, models/longcat_flash_ngram.py.
// Against LongCat-Flash: to the embedding of each token those of the n-grams that end in it are added, looked up by
// hashes.

#include <limits>

#include "longcat.h"
#include "recurrence.h"

namespace mlxk {
namespace {

struct NgramShape {
  int vocab_size, hidden_size;
  int neighbors, splits;  // the longest n-gram; tables for each length of n-gram
  int64_t first_rows;     // of the first table; each has two more than the one before

  explicit NgramShape(const ConfigReader& c, const LongcatConfig& base)
      : vocab_size(base.vocab_size),
        hidden_size(base.hidden_size),
        neighbors(c.integer("emb_neighbor_num", 4, 2, 64)),
        splits(c.integer("emb_split_num", 4, 1, 64)),
        first_rows(int64_t{c.count("ngram_vocab_size_ratio", 78)} * vocab_size) {
    c.require(hidden_size >= tables(), "hidden_size",
              "must be at least emb_split_num * (emb_neighbor_num - 1), " + std::to_string(tables()));
    c.require(first_rows + 2 * tables() < std::numeric_limits<int32_t>::max(), "ngram_vocab_size_ratio",
              "times vocab_size must be below 2^31");
  }

  int tables() const { return splits * (neighbors - 1); }
  int width() const { return hidden_size / tables(); }
  int rows(int table) const { return static_cast<int>(first_rows) + 2 * table + 1; }
};

Array int64(int64_t value) {
  // Built of two halves: scalars pass through float32.
  const auto high = static_cast<int32_t>(value >> 16), low = static_cast<int32_t>(value & 0xffff), base = 1 << 16;
  const auto wide = [](int32_t v) { return mx::astype(mx::from_ints({&v, 1}, {1}), mx::Type::i64); };
  return wide(high) * wide(base) + wide(low);
}

struct Table {
  Embedding embedding;
  Linear projection;
  Array rows;                  // their number, int64 [1]
  std::vector<Array> factors;  // of the ids before, the nearest first
};

std::vector<Table> read_tables(const NgramShape& s, const Weights& w) {
  std::vector<Table> tables;
  for (int n = 2; n <= s.neighbors; ++n) {
    for (int split = 0; split < s.splits; ++split) {
      const int index = static_cast<int>(tables.size()), rows = s.rows(index);
      Table table{Embedding(w["embedders"][index], rows, s.width()),
                  Linear(w["post_projs"][index], s.width(), s.hidden_size),
                  int64(rows),
                  {}};
      int64_t power = 1;
      for (int i = 1; i < n; ++i) {
        power = power * s.vocab_size % rows;
        table.factors.push_back(int64(power));
      }
      tables.push_back(std::move(table));
    }
  }
  return tables;
}

// Before the base binds its tensors: original checkpoints name the embedding of the tokens otherwise.
LongcatConfig prepared(LongcatConfig c, const Weights& w) {
  w.rename("model.embed_tokens", "model.ngram_embeddings.word_embeddings");
  c.names.embed_tokens = "model.ngram_embeddings.word_embeddings";
  return c;
}

class LongcatFlashNgram final : public LongcatDecoder {
 public:
  LongcatFlashNgram(const ConfigReader& reader, const Weights& w)
      : LongcatDecoder(prepared(LongcatConfig(reader), w), w),
        shape_(reader, config()),
        tables_(read_tables(shape_, w["model"]["ngram_embeddings"])) {
    w["model"]["mtp"].discard();
  }

  // After those of the layers, the last ids that the sequence has seen.
  SequenceCache new_cache() const override {
    SequenceCache cache = LongcatDecoder::new_cache();
    cache.layers.push_back(std::make_unique<RecurrentState>(1));
    return cache;
  }

 protected:
  Array embed(const Array& ids, Batch& batch) const override {
    const int length = ids.dim(1), before = shape_.neighbors - 1;
    const LayerCache last{batch, config().num_hidden_layers * LongcatConfig::kStatesPerLayer};
    const Array context =
        mx::concatenate({recall(last, 0, {before}, mx::Type::i64), mx::astype(ids, mx::Type::i64)}, 1);
    remember(last, 0, mx::contiguous(mx::slice(context, 1, length, length + before)));

    Array sum = LongcatDecoder::embed(ids, batch);
    for (const Table& table : tables_) {
      Array hash = mx::slice(context, 1, before, before + length);
      for (size_t i = 0; i < table.factors.size(); ++i) {
        const int start = before - static_cast<int>(i) - 1;
        hash = hash + mx::slice(context, 1, start, start + length) * table.factors[i];
      }
      const Array row = hash - mx::floor_divide(hash, table.rows) * table.rows;
      sum = sum + table.projection(table.embedding(mx::astype(row, mx::Type::i32)));
    }
    return sum * (1 / static_cast<float>(1 + shape_.tables()));
  }

 private:
  NgramShape shape_;
  std::vector<Table> tables_;
};

}  // namespace

MLXK_MODEL(LongcatFlashNgram, "longcat_flash_ngram");

}  // namespace mlxk

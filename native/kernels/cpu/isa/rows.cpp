// Norms, gates and their kind: one row, or one run of numbers, computed in float32 and rounded once.

#include "kernels/cpu/isa/rows.h"

namespace mlxk::kernels::MLXK_ISA {
namespace {

inline float square_root(float x) { return __builtin_sqrtf(x); }

template <class T>
void store_one(T* to, float v) {
  store_some(to, splat(v), 1);
}

F silu(F x) { return x * sigmoid(x); }

// Hendrycks and Gimpel's approximation, arXiv 1606.08415.
F gelu_tanh(F x) { return 0.5f * x * (1.0f + tanh(0.7978845608f * (x + 0.044715f * x * x * x))); }

// x * (1 + erf(x / sqrt 2)) / 2.
F gelu(F x) {
  F y;
  for (int i = 0; i < kLanes; ++i) y[i] = 0.5f * x[i] * (1 + __builtin_erff(x[i] * 0.7071067812f));
  return y;
}

template <F (*activate)(F)>
F product(F gate, F up) {
  return activate(gate) * up;
}

// mlx-lm, models/gpt_oss.py: the gate is held below 7, what it is multiplied with within 7 and moved up by 1.
F clipped_silu(F gate, F up) {
  const F held = least_of(gate, splat(7.0f));
  return held * sigmoid(1.702f * held) * (most_of(least_of(up, splat(7.0f)), splat(-7.0f)) + 1.0f);
}

template <F (*combine)(F gate, F up), class T>
void gated(const T* gate, const T* up, T* y, int64_t count) {
  for_vectors(count, [&](auto get, auto put) { put(y, combine(get(gate), get(up))); });
}

}  // namespace

void widen(Type type, const void* from, float* to, int64_t count) {
  by_type(type, [&]<class T>(T*) {
    const T* x = static_cast<const T*>(from);
    for_vectors(count, [&](auto get, auto put) { put(to, get(x)); });
  });
}

void narrow(Type type, const float* from, void* to, int64_t count) {
  by_type(type, [&]<class T>(T*) {
    T* y = static_cast<T*>(to);
    for_vectors(count, [&](auto get, auto put) { put(y, get(from)); });
  });
}

void rms_norm(Type type, const void* from, const float* weight, float eps, int width, void* to) {
  by_type(type, [&]<class T>(T*) {
    const T* x = static_cast<const T*>(from);
    T* y = static_cast<T*>(to);
    F squares = {};
    for_vectors(width, [&](auto get, auto) { squares += get(x) * get(x); });
    const float scale = 1 / square_root(sum(squares) / static_cast<float>(width) + eps);
    if (weight) {
      for_vectors(width, [&](auto get, auto put) { put(y, get(x) * scale * get(weight)); });
    } else {
      for_vectors(width, [&](auto get, auto put) { put(y, get(x) * scale); });
    }
  });
}

void layer_norm(Type type, const void* from, const float* weight, const float* bias, float eps, int width, void* to) {
  by_type(type, [&]<class T>(T*) {
    const T* x = static_cast<const T*>(from);
    T* y = static_cast<T*>(to);
    F total = {};
    for_vectors(width, [&](auto get, auto) { total += get(x); });
    const float mean = sum(total) / static_cast<float>(width);
    float squares = 0;  // what lies beyond the row must not count as -mean
    int at = 0;
    F squares_in_lanes = {};
    for (; at + kLanes <= width; at += kLanes) {
      const F off = load(x + at) - mean;
      squares_in_lanes += off * off;
    }
    squares = sum(squares_in_lanes);
    for (; at < width; ++at) {
      const float off = load_some(x + at, 1)[0] - mean;
      squares += off * off;
    }
    const float scale = 1 / square_root(squares / static_cast<float>(width) + eps);
    for_vectors(width, [&](auto get, auto put) {
      F v = (get(x) - mean) * scale;
      if (weight) v *= get(weight);
      if (bias) v += get(bias);
      put(y, v);
    });
  });
}

void softmax(Type type, const void* from, int width, void* to) {
  by_type(type, [&]<class T>(T*) {
    const T* x = static_cast<const T*>(from);
    T* y = static_cast<T*>(to);
    float most = -__builtin_inff();
    int at = 0;
    F most_in_lanes = splat(most);
    for (; at + kLanes <= width; at += kLanes) most_in_lanes = most_of(most_in_lanes, load(x + at));
    most = largest(most_in_lanes);
    for (; at < width; ++at) {
      const float v = load_some(x + at, 1)[0];
      most = v > most ? v : most;
    }
    float total = 0;
    F total_in_lanes = {};
    for (at = 0; at + kLanes <= width; at += kLanes) total_in_lanes += exp(load(x + at) - most);
    total = sum(total_in_lanes);
    for (; at < width; ++at) total += exp(load_some(x + at, 1) - most)[0];
    for_vectors(width, [&](auto get, auto put) { put(y, exp(get(x) - most) / total); });
  });
}

void gate(Type type, Activation activation, const void* gate_from, const void* up_from, void* to, int64_t count) {
  by_type(type, [&]<class T>(T*) {
    const T *gates = static_cast<const T*>(gate_from), *ups = static_cast<const T*>(up_from);
    T* y = static_cast<T*>(to);
    switch (activation) {
      case Activation::silu: return gated<product<silu>>(gates, ups, y, count);
      case Activation::gelu: return gated<product<gelu>>(gates, ups, y, count);
      case Activation::gelu_tanh: return gated<product<gelu_tanh>>(gates, ups, y, count);
      case Activation::clipped_silu: return gated<clipped_silu>(gates, ups, y, count);
    }
  });
}

void add(Type type, const void* a, const void* b, void* to, int64_t count) {
  by_type(type, [&]<class T>(T*) {
    const T *left = static_cast<const T*>(a), *right = static_cast<const T*>(b);
    T* y = static_cast<T*>(to);
    for_vectors(count, [&](auto get, auto put) { put(y, get(left) + get(right)); });
  });
}

void rotate(Type type, const void* from, const float* cosines, const float* sines, int dims, bool traditional,
            int width, void* to) {
  by_type(type, [&]<class T>(T*) {
    const T* x = static_cast<const T*>(from);
    T* y = static_cast<T*>(to);
    const int half = dims / 2;
    if (traditional) {
      for (int i = 0; i < half; ++i) {
        const float a = value_of_one(x[2 * i]), b = value_of_one(x[2 * i + 1]);
        store_one(y + 2 * i, a * cosines[i] - b * sines[i]);
        store_one(y + 2 * i + 1, a * sines[i] + b * cosines[i]);
      }
    } else {
      for_vectors(half, [&](auto get, auto put) {
        const F a = get(x), b = get(x + half), c = get(cosines), s = get(sines);
        put(y, a * c - b * s);
        put(y + half, a * s + b * c);
      });
    }
    if (width > dims) __builtin_memcpy(y + dims, x + dims, static_cast<size_t>(width - dims) * sizeof(T));
  });
}

int64_t argmax(Type type, const void* from, int64_t count) {
  int64_t best = 0;
  by_type(type, [&]<class T>(T*) {
    const T* x = static_cast<const T*>(from);
    // The largest first, then where it stands: twice through a row is faster than carrying places along.
    constexpr int64_t kBlock = 1024;
    float most = -__builtin_inff();
    int64_t block = 0;
    for (int64_t first = 0; first < count; first += kBlock) {
      const int64_t last = first + kBlock < count ? first + kBlock : count;
      F most_in_lanes = splat(-__builtin_inff());
      I strange = {};
      int64_t at = first;
      for (; at + kLanes <= last; at += kLanes) {
        const F v = load(x + at);
        strange |= v != v;
        most_in_lanes = most_of(most_in_lanes, v);
      }
      float here = largest(most_in_lanes);
      bool nan = false;
      for (int lane = 0; lane < kLanes; ++lane) nan |= strange[lane] != 0;
      for (; at < last; ++at) {
        const float v = value_of_one(x[at]);
        nan |= v != v;
        here = v > here ? v : here;
      }
      if (nan) {
        for (best = first; !(value_of_one(x[best]) != value_of_one(x[best])); ++best) {
        }
        return;
      }
      if (here > most) {
        most = here;
        block = first;
      }
    }
    for (best = block; best < count && value_of_one(x[best]) != most; ++best) {
    }
    if (best == count) best = 0;
  });
  return best;
}

float sum_exponentials(Type type, const void* from, float most, int64_t count) {
  if (most == -__builtin_inff()) return 0;
  float total = 0;
  by_type(type, [&]<class T>(T*) {
    const T* x = static_cast<const T*>(from);
    F sums[2] = {};
    int64_t at = 0;
    for (; at + 2 * kLanes <= count; at += 2 * kLanes) {
      sums[0] += exp(load(x + at) - most);
      sums[1] += exp(load(x + at + kLanes) - most);
    }
    total = sum(sums[0] + sums[1]);
    for (; at < count; ++at) total += exp(splat(value_of_one(x[at]) - most))[0];
  });
  return total;
}

}  // namespace mlxk::kernels::MLXK_ISA

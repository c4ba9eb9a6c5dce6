// Chains of instructions of `map`, each of which takes what the one before has made: it stays in registers.
//
//   load --eight vectors--> op --> op --> ... --> store
//
// A link is a function that takes eight vectors as arguments, which the calling conventions of all our machines pass in
// registers, does its instruction to each, and ends by calling the next one: a jump where the compiler optimises, and a stack
// not deeper than a program is long where it does not. Other operands come from memory, so that an instruction costs its
// arithmetic and a ninth of a call, and no store. Long bodies (FC_FUNCTION) have no links: they are not bound by that.
#ifndef FASTCONV_MAP_LINKS_INL_H
#define FASTCONV_MAP_LINKS_INL_H

#include "fastconv/map/args.h"
#include "fastconv/map/functions.inl.h"
#include "fastconv/simd/random.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

struct MapRegister {
    const float* p;
    int64_t step;  // kWidth, or 0: one vector for the whole block
};

constexpr int64_t kLinked = 8 * kWidth;  // elements that go through a chain at a time

struct MapLink;
typedef void (*MapLinkRun)(V, V, V, V, V, V, V, V, const MapLink*, int64_t);
struct MapLink {
    MapLinkRun run;
    const float *p, *q;  // the operands that come from memory; the last link's: where it stores
    int64_t s, t;        // 1, or 0 for one vector
};

#define FC_OP(name, operands, body)                                       \
    struct MapBody_##name {                                               \
        static constexpr int kOperands = operands;                        \
        static FC_INLINE V run(V x, V z, V w) {                           \
            (void)x, (void)z, (void)w;                                    \
            return body;                                                  \
        }                                                                 \
    };
#define FC_FUNCTION(name, operands, body) struct MapBody_##name { static constexpr int kOperands = 0; };
#include "fastconv/map/map.def"
#undef FC_OP
#undef FC_FUNCTION

// The instruction with the vector `a` as operand `slot`, and the others in their order.
template <class Body, int slot>
FC_INLINE V map_linked(V a, V other, V third) {
    return Body::run(slot == 0 ? a : other, slot == 1 ? a : slot == 0 ? other : third, slot == 2 ? a : third);
}

// `still`: the operands from memory are a vector each. Strides only where they must be: registers that the caller wants back
// would be in the way of the next link.
template <class Body, int slot, bool still>
void map_link(V a, V b, V c, V d, V e, V f, V g, V h, const MapLink* l, int64_t at) {
    const auto each = [&](const auto& other, const auto& third) __attribute__((always_inline)) {
        a = map_linked<Body, slot>(a, other(0), third(0));
        b = map_linked<Body, slot>(b, other(1), third(1));
        c = map_linked<Body, slot>(c, other(2), third(2));
        d = map_linked<Body, slot>(d, other(3), third(3));
        e = map_linked<Body, slot>(e, other(4), third(4));
        f = map_linked<Body, slot>(f, other(5), third(5));
        g = map_linked<Body, slot>(g, other(6), third(6));
        h = map_linked<Body, slot>(h, other(7), third(7));
    };
    if constexpr (still) {
        const V p = Body::kOperands > 1 ? load<kWidth>(l->p) : V{}, q = Body::kOperands > 2 ? load<kWidth>(l->q) : V{};
        each([&](int) { return p; }, [&](int) { return q; });
    } else if constexpr (Body::kOperands == 2) {
        const float* p = l->p + at;
        each([&](int i) { return load<kWidth>(p + i * kWidth); }, [&](int) { return V{}; });
    } else {
        const float *p = l->p + at * l->s, *q = l->q + at * l->t;
        const int64_t s = l->s * kWidth, t = l->t * kWidth;
        each([&](int i) { return load<kWidth>(p + i * s); }, [&](int i) { return load<kWidth>(q + i * t); });
    }
    return l[1].run(a, b, c, d, e, f, g, h, l + 1, at);
}

void map_link_load(V, V, V, V, V, V, V, V, const MapLink* l, int64_t at) {
    const float* p = l->p + at * l->s;
    const auto x = [&](int i) { return load<kWidth>(l->s ? p + i * kWidth : p); };
    return l[1].run(x(0), x(1), x(2), x(3), x(4), x(5), x(6), x(7), l + 1, at);
}

void map_link_store(V a, V b, V c, V d, V e, V f, V g, V h, const MapLink* l, int64_t at) {
    float* y = const_cast<float*>(l->p) + at;
    store<kWidth>(y, a);
    store<kWidth>(y + kWidth, b);
    store<kWidth>(y + 2 * kWidth, c);
    store<kWidth>(y + 3 * kWidth, d);
    store<kWidth>(y + 4 * kWidth, e);
    store<kWidth>(y + 5 * kWidth, f);
    store<kWidth>(y + 6 * kWidth, g);
    store<kWidth>(y + 7 * kWidth, h);
}

template <class Body, int slot, bool still>
constexpr MapLinkRun map_link_of() {
    if constexpr (slot < Body::kOperands) {
        return map_link<Body, slot, still || Body::kOperands == 1>;
    } else {
        return nullptr;
    }
}

template <class Body>
constexpr MapLinkRun map_links_of(int slot, bool still) {
    const MapLinkRun found[2][3] = {{map_link_of<Body, 0, false>(), map_link_of<Body, 1, false>(), map_link_of<Body, 2, false>()},
                                    {map_link_of<Body, 0, true>(), map_link_of<Body, 1, true>(), map_link_of<Body, 2, true>()}};
    return found[still][slot];
}

#define FC_FUNCTION FC_OP
#define FC_LINK(name, still) \
    {map_links_of<MapBody_##name>(0, still), map_links_of<MapBody_##name>(1, still), map_links_of<MapBody_##name>(2, still)},
const MapLinkRun map_links[][3] = {
#define FC_OP(name, operands, body) FC_LINK(name, false)
#include "fastconv/map/map.def"
#undef FC_OP
};
const MapLinkRun map_still_links[][3] = {
#define FC_OP(name, operands, body) FC_LINK(name, true)
#include "fastconv/map/map.def"
#undef FC_OP
};
#undef FC_LINK
#undef FC_FUNCTION

// The links of the `c->chain` instructions from c on.
inline void map_chain(const FcInstruction* c, const MapRegister* registers, MapLink* l) {
    const auto reads = [&](int32_t which, const float*& p, int64_t& s) {
        p = registers[which].p;
        s = registers[which].step != 0;
    };
    const int32_t count = c->chain;
    l->run = map_link_load;
    reads(c->of[0], l->p, l->s);
    for (int32_t i = 0; i < count; ++i, ++c) {
        const int32_t slot = i ? c->slot : 0;
        ++l;
        l->s = l->t = 0;
        if (map_links[c->op][1]) reads(c->of[slot == 0], l->p, l->s);
        if (map_links[c->op][2]) reads(c->of[slot == 2 ? 1 : 2], l->q, l->t);
        l->run = (l->s || l->t ? map_links : map_still_links)[c->op][slot];
        if (i + 1 == count) {
            l[1].run = map_link_store;
            l[1].p = registers[c->to].p;
        }
    }
}

}  // namespace
}  // namespace
#endif

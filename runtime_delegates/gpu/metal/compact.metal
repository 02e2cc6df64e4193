// Written by build_shaders.py from shaders/compact.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"
#pragma clang diagnostic ignored "-Wunused-variable"

#include <metal_stdlib>
#include <simd/simd.h>
#include <metal_atomic>

using namespace metal;

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Push
{
    uint experts;
    uint score_stride;
    uint norm;
    uint classes;
    uint norm_at;
    uint index;
    float eps;
    float norm_scale;
    float out_scale;
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant bool _101 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;

struct Scores
{
    float scores[1];
};

struct Result
{
    uint result[1];
};

struct NormWeight
{
    float norm_weight[1];
};

struct Route
{
    uint route[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _610 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_610, 1u, 1u);

kernel void compact(constant Push& p [[buffer(0)]], const device Scores& _167 [[buffer(2)]], const device NormWeight& _463 [[buffer(4)]], const device Step& _109 [[buffer(5)]], device Result& _214 [[buffer(6)]], device Route& _513 [[buffer(7)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup uint active_[64];
    threadgroup float sums[1024];
    threadgroup float factors[64];
    uint _98 = (p.experts + 31u) / 32u;
    uint _716;
    if (_101)
    {
        _716 = 1u;
    }
    else
    {
        _716 = _109.step_[0];
    }
    for (uint _717 = gl_LocalInvocationID.x; _717 < _98; )
    {
        active_[_717] = 0u;
        _717 += THREADS;
        continue;
    }
    for (uint _718 = gl_LocalInvocationID.x; _718 < (_716 * 16u); _718 += THREADS)
    {
        uint _153 = _718 % 16u;
        bool _772;
        float _776;
        _776 = 0.0;
        _772 = true;
        bool _188;
        float _778;
        for (uint _771 = _153; _771 < p.experts; _776 = _778, _772 = _188, _771 += 16u)
        {
            uint _175 = ((_718 / 16u) * p.score_stride) + _771;
            float _181 = fast::max(_167.scores[_175], 0.0);
            if (_772)
            {
                _188 = (as_type<uint>(_167.scores[_175]) & 2147483647u) < 2139095040u;
            }
            else
            {
                _188 = _772;
            }
            if (p.norm == 1u)
            {
                _778 = fma(_181, _181, _776);
            }
            else
            {
                _778 = spvFAdd(_776, _181);
            }
        }
        if (!_772)
        {
            _214.result[0] = 1u;
        }
        sums[_718] = _776;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint _719 = gl_LocalInvocationID.x; _719 < _716; _719 += THREADS)
    {
        uint _239 = _719 * 16u;
        float _968 = (((((((((((((spvFAdd(sums[_239], sums[_239 + 1u]) + sums[_239 + 2u]) + sums[_239 + 3u]) + sums[_239 + 4u]) + sums[_239 + 5u]) + sums[_239 + 6u]) + sums[_239 + 7u]) + sums[_239 + 8u]) + sums[_239 + 9u]) + sums[_239 + 10u]) + sums[_239 + 11u]) + sums[_239 + 12u]) + sums[_239 + 13u]) + sums[_239 + 14u]) + sums[_239 + 15u];
        bool _263 = !((as_type<uint>(_968) & 2147483647u) < 2139095040u);
        bool _269;
        if (_263)
        {
            _269 = p.norm != 0u;
        }
        else
        {
            _269 = _263;
        }
        if (_269)
        {
            _214.result[0] = 1u;
        }
        float _770;
        if (p.norm == 1u)
        {
            _770 = 1.0 / sqrt((_968 / float(p.experts)) + p.eps);
        }
        else
        {
            _770 = 1.0;
        }
        float _769;
        if (p.norm == 2u)
        {
            _769 = 1.0 / fma(_968, p.norm_scale, 9.9999997473787516355514526367188e-06);
        }
        else
        {
            _769 = _770;
        }
        factors[_719] = _769 * p.out_scale;
    }
    for (uint _720 = gl_LocalInvocationID.x; _720 < p.experts; _720 += THREADS)
    {
        bool _755;
        _755 = false;
        bool _352;
        for (uint _754 = 0u; _754 < _716; _755 = _352, _754++)
        {
            if (!_755)
            {
                _352 = _167.scores[(_754 * p.score_stride) + _720] > 0.0;
            }
            else
            {
                _352 = _755;
            }
        }
        if (_755)
        {
            uint _364 = atomic_fetch_or_explicit((threadgroup atomic_uint*)&active_[_720 / 32u], 1u << (_720 % 32u), memory_order_relaxed);
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint _631 = ((p.experts + p.classes) - 1u) / p.classes;
    uint _381 = 16u + ((_631 * p.classes) * 4u);
    for (uint _721 = gl_LocalInvocationID.x; _721 < p.experts; _721 += THREADS)
    {
        uint _394 = _721 / 32u;
        uint _398 = _721 % 32u;
        if (((active_[_394] >> _398) & 1u) == 0u)
        {
            continue;
        }
        uint _409 = _721 % p.classes;
        bool _639 = p.classes == 1u;
        uint _734;
        if (_639)
        {
            _734 = 4294967295u;
        }
        else
        {
            uint _733;
            if (p.classes == 2u)
            {
                _733 = 1431655765u;
            }
            else
            {
                _733 = (p.classes == 4u) ? 286331153u : 16843009u;
            }
            _734 = _733;
        }
        uint _743;
        _743 = (_409 * _631) + uint(int(popcount((active_[_394] & (_734 << _409)) & ((1u << _398) - 1u))));
        uint _450;
        for (uint _737 = 0u; _737 < _394; _743 = _450, _737++)
        {
            uint _748;
            if (_639)
            {
                _748 = 4294967295u;
            }
            else
            {
                uint _747;
                if (p.classes == 2u)
                {
                    _747 = 1431655765u;
                }
                else
                {
                    _747 = (p.classes == 4u) ? 286331153u : 16843009u;
                }
                _748 = _747;
            }
            _450 = _743 + uint(int(popcount(active_[_737] & (_748 << _409))));
        }
        float _739;
        if (p.norm == 1u)
        {
            _739 = _463.norm_weight[p.norm_at + _721];
        }
        else
        {
            _739 = 1.0;
        }
        uint2 mask = uint2(0u);
        for (uint _740 = 0u; _740 < _716; _740++)
        {
            uint _492 = (_740 * p.score_stride) + _721;
            if (!(_167.scores[_492] > 0.0))
            {
                continue;
            }
            uint _502 = _740 / 32u;
            mask[_502] |= (1u << (_740 % 32u));
            _513.route[(_381 + (_743 * 64u)) + _740] = as_type<uint>((_167.scores[_492] * factors[_740]) * _739);
        }
        uint _533 = _743 * 4u;
        _513.route[16u + _533] = _721;
        _513.route[_533 + 17u] = mask.x;
        _513.route[_533 + 18u] = mask.y;
    }
    if (gl_LocalInvocationID.x < 9u)
    {
        uint _723;
        _723 = 0u;
        uint _586;
        for (uint _722 = 0u; _722 < _98; _723 = _586, _722++)
        {
            uint _726;
            if (gl_LocalInvocationID.x < 8u)
            {
                uint _725;
                if (p.classes == 1u)
                {
                    _725 = 4294967295u;
                }
                else
                {
                    uint _724;
                    if (p.classes == 2u)
                    {
                        _724 = 1431655765u;
                    }
                    else
                    {
                        _724 = (p.classes == 4u) ? 286331153u : 16843009u;
                    }
                    _725 = _724;
                }
                _726 = active_[_722] & (_725 << gl_LocalInvocationID.x);
            }
            else
            {
                _726 = active_[_722];
            }
            _586 = _723 + uint(int(popcount(_726)));
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            _513.route[4u + gl_LocalInvocationID.x] = (gl_LocalInvocationID.x < p.classes) ? _723 : 0u;
        }
        else
        {
            _214.result[1u + p.index] = _723;
            _513.route[0] = _723;
        }
    }
}


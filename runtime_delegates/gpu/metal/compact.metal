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

struct Scores
{
    float scores[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant bool _143 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct NormWeight
{
    float norm_weight[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;

struct Result
{
    uint result[1];
};

struct Route
{
    uint route[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _742 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_742, 1u, 1u);

kernel void compact(constant Push& p [[buffer(0)]], const device Scores& _112 [[buffer(2)]], const device NormWeight& _180 [[buffer(4)]], const device Step& _151 [[buffer(5)]], device Result& _348 [[buffer(6)]], device Route& _645 [[buffer(7)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float staged[2048];
    threadgroup uint active_[64];
    threadgroup float sums[1024];
    threadgroup float factors[64];
    uint _140 = (p.experts + 31u) / 32u;
    uint _920;
    if (_143)
    {
        _920 = 1u;
    }
    else
    {
        _920 = _151.step_[0];
    }
    uint _160 = _920 * p.experts;
    bool _161 = _160 <= 2048u;
    bool _166 = p.norm == 1u;
    bool _173;
    if (_166)
    {
        _173 = gl_LocalInvocationID.x < p.experts;
    }
    else
    {
        _173 = _166;
    }
    float _921;
    if (_173)
    {
        _921 = _180.norm_weight[p.norm_at + gl_LocalInvocationID.x];
    }
    else
    {
        _921 = 1.0;
    }
    for (uint _922 = gl_LocalInvocationID.x; _922 < _140; )
    {
        active_[_922] = 0u;
        _922 += THREADS;
        continue;
    }
    if (_161)
    {
        for (uint _923 = gl_LocalInvocationID.x; _923 < p.experts; _923 += THREADS)
        {
            for (uint _998 = 0u; _998 < _920; _998 += TOKENS)
            {
                for (uint _1000 = 0u; _1000 < TOKENS; _1000++)
                {
                    uint _245 = _998 + _1000;
                    if (_245 < _920)
                    {
                        staged[(_245 * p.experts) + _923] = _112.scores[(_245 * p.score_stride) + _923];
                    }
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    for (uint _924 = gl_LocalInvocationID.x; _924 < (_920 * 16u); _924 += THREADS)
    {
        uint _295 = _924 % 16u;
        bool _985;
        float _989;
        _989 = 0.0;
        _985 = true;
        bool _323;
        float _994;
        for (uint _984 = _295; _984 < p.experts; _989 = _994, _985 = _323, _984 += 16u)
        {
            uint _307 = _924 / 16u;
            float _990;
            if (_161)
            {
                _990 = staged[(_307 * p.experts) + _984];
            }
            else
            {
                _990 = _112.scores[(_307 * p.score_stride) + _984];
            }
            float _316 = fast::max(_990, 0.0);
            if (_985)
            {
                _323 = (as_type<uint>(_990) & 2147483647u) < 2139095040u;
            }
            else
            {
                _323 = _985;
            }
            if (_166)
            {
                _994 = fma(_316, _316, _989);
            }
            else
            {
                _994 = spvFAdd(_989, _316);
            }
        }
        if (!_985)
        {
            _348.result[0] = 1u;
        }
        sums[_924] = _989;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint _925 = gl_LocalInvocationID.x; _925 < _920; _925 += THREADS)
    {
        uint _371 = _925 * 16u;
        float _1196 = (((((((((((((spvFAdd(sums[_371], sums[_371 + 1u]) + sums[_371 + 2u]) + sums[_371 + 3u]) + sums[_371 + 4u]) + sums[_371 + 5u]) + sums[_371 + 6u]) + sums[_371 + 7u]) + sums[_371 + 8u]) + sums[_371 + 9u]) + sums[_371 + 10u]) + sums[_371 + 11u]) + sums[_371 + 12u]) + sums[_371 + 13u]) + sums[_371 + 14u]) + sums[_371 + 15u];
        bool _395 = !((as_type<uint>(_1196) & 2147483647u) < 2139095040u);
        bool _401;
        if (_395)
        {
            _401 = p.norm != 0u;
        }
        else
        {
            _401 = _395;
        }
        if (_401)
        {
            _348.result[0] = 1u;
        }
        float _983;
        if (_166)
        {
            _983 = 1.0 / sqrt((_1196 / float(p.experts)) + p.eps);
        }
        else
        {
            _983 = 1.0;
        }
        float _982;
        if (p.norm == 2u)
        {
            _982 = 1.0 / fma(_1196, p.norm_scale, 9.9999997473787516355514526367188e-06);
        }
        else
        {
            _982 = _983;
        }
        factors[_925] = _982 * p.out_scale;
    }
    for (uint _926 = gl_LocalInvocationID.x; _926 < p.experts; _926 += THREADS)
    {
        bool _966;
        _966 = false;
        bool _482;
        for (uint _965 = 0u; _965 < _920; _966 = _482, _965++)
        {
            if (!_966)
            {
                float _969;
                if (_161)
                {
                    _969 = staged[(_965 * p.experts) + _926];
                }
                else
                {
                    _969 = _112.scores[(_965 * p.score_stride) + _926];
                }
                _482 = _969 > 0.0;
            }
            else
            {
                _482 = _966;
            }
        }
        if (_966)
        {
            uint _494 = atomic_fetch_or_explicit((threadgroup atomic_uint*)&active_[_926 / 32u], 1u << (_926 % 32u), memory_order_relaxed);
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint _811 = ((p.experts + p.classes) - 1u) / p.classes;
    uint _511 = 16u + ((_811 * p.classes) * 4u);
    for (uint _927 = gl_LocalInvocationID.x; _927 < p.experts; _927 += THREADS)
    {
        uint _524 = _927 / 32u;
        uint _528 = _927 % 32u;
        if (((active_[_524] >> _528) & 1u) == 0u)
        {
            continue;
        }
        uint _539 = _927 % p.classes;
        bool _819 = p.classes == 1u;
        uint _940;
        if (_819)
        {
            _940 = 4294967295u;
        }
        else
        {
            uint _939;
            if (p.classes == 2u)
            {
                _939 = 1431655765u;
            }
            else
            {
                _939 = (p.classes == 4u) ? 286331153u : 16843009u;
            }
            _940 = _939;
        }
        uint _951;
        _951 = (_539 * _811) + uint(int(popcount((active_[_524] & (_940 << _539)) & ((1u << _528) - 1u))));
        uint _580;
        for (uint _943 = 0u; _943 < _524; _951 = _580, _943++)
        {
            uint _959;
            if (_819)
            {
                _959 = 4294967295u;
            }
            else
            {
                uint _958;
                if (p.classes == 2u)
                {
                    _958 = 1431655765u;
                }
                else
                {
                    _958 = (p.classes == 4u) ? 286331153u : 16843009u;
                }
                _959 = _958;
            }
            _580 = _951 + uint(int(popcount(active_[_943] & (_959 << _539))));
        }
        bool _586 = _927 == gl_LocalInvocationID.x;
        bool _593;
        if (!_586)
        {
            _593 = p.norm != 1u;
        }
        else
        {
            _593 = _586;
        }
        float _946;
        if (_593)
        {
            _946 = _921;
        }
        else
        {
            _946 = _180.norm_weight[p.norm_at + _927];
        }
        uint2 mask = uint2(0u);
        for (uint _947 = 0u; _947 < _920; _947++)
        {
            float _954;
            if (_161)
            {
                _954 = staged[(_947 * p.experts) + _927];
            }
            else
            {
                _954 = _112.scores[(_947 * p.score_stride) + _927];
            }
            if (!(_954 > 0.0))
            {
                continue;
            }
            uint _634 = _947 / 32u;
            mask[_634] |= (1u << (_947 % 32u));
            _645.route[(_511 + (_951 * 64u)) + _947] = as_type<uint>((_954 * factors[_947]) * _946);
        }
        uint _665 = _951 * 4u;
        _645.route[16u + _665] = _927;
        _645.route[_665 + 17u] = mask.x;
        _645.route[_665 + 18u] = mask.y;
    }
    if (gl_LocalInvocationID.x < 9u)
    {
        uint _929;
        _929 = 0u;
        uint _718;
        for (uint _928 = 0u; _928 < _140; _929 = _718, _928++)
        {
            uint _932;
            if (gl_LocalInvocationID.x < 8u)
            {
                uint _931;
                if (p.classes == 1u)
                {
                    _931 = 4294967295u;
                }
                else
                {
                    uint _930;
                    if (p.classes == 2u)
                    {
                        _930 = 1431655765u;
                    }
                    else
                    {
                        _930 = (p.classes == 4u) ? 286331153u : 16843009u;
                    }
                    _931 = _930;
                }
                _932 = active_[_928] & (_931 << gl_LocalInvocationID.x);
            }
            else
            {
                _932 = active_[_928];
            }
            _718 = _929 + uint(int(popcount(_932)));
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            _645.route[4u + gl_LocalInvocationID.x] = (gl_LocalInvocationID.x < p.classes) ? _929 : 0u;
        }
        else
        {
            _348.result[1u + p.index] = _929;
            _645.route[0] = _929;
        }
    }
}


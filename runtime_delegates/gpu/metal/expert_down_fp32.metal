// Written by build_shaders.py from shaders/expert_down.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, uint A>
inline void spvArrayCopyFromStackToStack1(thread T (&dst)[A], thread const T (&src)[A])
{
    for (uint i = 0; i < A; i++)
    {
        dst[i] = src[i];
    }
}

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Weights
{
    uint4 weights[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant uint _290 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _293 = (THREADS * TOKENS);
constant uint _294 = (_293 * 4u);
constant uint _310 = (THREADS / 2u);
constant uint _331 = (TOKENS * 4u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint expert_vectors;
    uint first_expert;
    uint experts;
    uint rows;
    uint cols;
    uint x_stride;
    uint y_stride;
    uint max_tokens;
    uint slots;
    uint classes;
    uint accumulate;
};

struct Route
{
    uint route[1];
};

constant uint _436 = (TOKENS * 4u);
constant bool _494 = (TOKENS == 1u);
constant uint _511 = (1u << TOKENS);
constant uint _512 = (_511 - 1u);
constant bool _517 = (TOKENS >= 4u);
constant bool _519 = (_517 && false);
constant int _520 = _519 ? 2 : 2;
constant uint _521 = (uint(_520) + 0u);
constant bool _572 = (TOKENS >= 4u);
constant bool _573 = (_572 && false);
constant int _574 = _573 ? 2 : 2;
constant uint _575 = (uint(_574) + 0u);
constant bool _614 = (TOKENS >= 4u);
constant bool _615 = (_614 && false);
constant int _616 = _615 ? 2 : 2;
constant uint _617 = (uint(_616) + 0u);
constant bool _639 = (TOKENS != 1u);

struct X
{
    float4 x[1];
};

constant bool _811 = (TOKENS >= 4u);
constant bool _812 = (_811 && false);
constant int _813 = _812 ? 2 : 2;
constant uint _814 = (uint(_813) + 0u);
constant uint _837 = (8u * TOKENS);

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _896 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_896, 1u, 1u);

kernel void expert_down_fp32(constant Push& p [[buffer(0)]], const device Weights& _115 [[buffer(1)]], const device X& _751 [[buffer(2)]], device Y& _886 [[buffer(3)]], const device Route& _404 [[buffer(4)]], const device Step& _371 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_294];
    do
    {
        uint _366 = gl_WorkGroupID.y * TOKENS;
        uint _374 = _371.step_[0];
        if (_366 >= _374)
        {
            break;
        }
        uint _908 = ((p.cols + 3u) / 4u) * 2u;
        uint _395 = THREADS / p.classes;
        uint _399 = gl_LocalInvocationID.x / _395;
        uint _406 = 4u + _399;
        uint _412 = _399 + 5u;
        uint _428 = (16u + (p.slots * 4u)) + (p.slots * 64u);
        float acc[32];
        for (uint _1178 = 0u; _1178 < _436; )
        {
            acc[_1178] = 0.0;
            _1178++;
            continue;
        }
        uint _447 = gl_LocalInvocationID.x % _395;
        uint bits[2];
        uint tile[2];
        uint4 raw[2][4];
        float param_1[4];
        for (uint _1179 = _447; _1179 < _908; _1179 += _395)
        {
            for (uint _1186 = _404.route[_406]; _1186 < _404.route[_412]; _1186 += _814)
            {
                uint _479 = _404.route[_412] - 1u;
                uint _482 = 16u + (min(_1186, _479) * 4u);
                uint _489 = _404.route[_482] - p.first_expert;
                uint _1237;
                if (_494)
                {
                    _1237 = 1u;
                }
                else
                {
                    _1237 = (_404.route[_482 + uint((_366 < 32u) ? 2 : 3)] >> (_366 & 31u)) & _512;
                }
                bits[0u] = _1237;
                bool _522 = 0u >= _521;
                bool _531;
                if (!_522)
                {
                    _531 = _1186 >= _404.route[_412];
                }
                else
                {
                    _531 = _522;
                }
                bool _540;
                if (!_531)
                {
                    _540 = _489 >= p.experts;
                }
                else
                {
                    _540 = _531;
                }
                if (_540)
                {
                    bits[0u] = 0u;
                }
                uint _558 = gl_WorkGroupID.x * p.tile_vectors;
                tile[0u] = (p.first + (_489 * p.expert_vectors)) + _558;
                uint _1291 = _1186 + 1u;
                uint _1295 = 16u + (min(_1291, _479) * 4u);
                uint _1300 = _404.route[_1295] - p.first_expert;
                uint _1313;
                if (_494)
                {
                    _1313 = 1u;
                }
                else
                {
                    _1313 = (_404.route[_1295 + uint((_366 < 32u) ? 2 : 3)] >> (_366 & 31u)) & _512;
                }
                bits[1u] = _1313;
                bool _1315 = 1u >= _521;
                bool _1321;
                if (!_1315)
                {
                    _1321 = _1291 >= _404.route[_412];
                }
                else
                {
                    _1321 = _1315;
                }
                bool _1328;
                if (!_1321)
                {
                    _1328 = _1300 >= p.experts;
                }
                else
                {
                    _1328 = _1321;
                }
                if (_1328)
                {
                    bits[1u] = 0u;
                }
                tile[1u] = (p.first + (_1300 * p.expert_vectors)) + _558;
                for (uint _1189 = 0u; _1189 < 2u; _1189++)
                {
                    bool _576 = _1189 < _575;
                    bool _583;
                    if (_576)
                    {
                        _583 = bits[_1189] != 0u;
                    }
                    else
                    {
                        _583 = _576;
                    }
                    if (_583)
                    {
                        uint _915 = _1179 >> uint(1);
                        uint _916 = _915 * 4u;
                        uint _923 = (tile[_1189] + (_915 * 8u)) + (_1179 & 1u);
                        uint4 _1235;
                        if (_916 < p.cols)
                        {
                            _1235 = _115.weights[_923];
                        }
                        else
                        {
                            _1235 = uint4(0u);
                        }
                        uint4 _1361;
                        if ((_916 + 1u) < p.cols)
                        {
                            _1361 = _115.weights[_923 + 2u];
                        }
                        else
                        {
                            _1361 = uint4(0u);
                        }
                        uint4 _1379;
                        if ((_916 + 2u) < p.cols)
                        {
                            _1379 = _115.weights[_923 + 4u];
                        }
                        else
                        {
                            _1379 = uint4(0u);
                        }
                        uint4 _1397;
                        if ((_916 + 3u) < p.cols)
                        {
                            _1397 = _115.weights[_923 + 6u];
                        }
                        else
                        {
                            _1397 = uint4(0u);
                        }
                        uint4 _1561[4] = { _1235, _1361, _1379, _1397 };
                        spvArrayCopyFromStackToStack1(raw[_1189], _1561);
                    }
                }
                for (uint _1190 = 0u; _1190 < 2u; _1190++)
                {
                    bool _618 = _1190 >= _617;
                    bool _626;
                    if (!_618)
                    {
                        _626 = bits[_1190] == 0u;
                    }
                    else
                    {
                        _626 = _618;
                    }
                    if (_626)
                    {
                        continue;
                    }
                    uint _633 = _1186 + _1190;
                    uint _636 = _633 * 4u;
                    uint _1208;
                    if (_639)
                    {
                        uint _644 = _636 + 18u;
                        int _1196;
                        if (_366 < 32u)
                        {
                            _1196 = int(popcount(_404.route[_644] & ((1u << _366) - 1u)));
                        }
                        else
                        {
                            _1196 = int(popcount(_404.route[_644])) + int(popcount(_404.route[_636 + 19u] & ((1u << (_366 & 31u)) - 1u)));
                        }
                        _1208 = uint(_1196);
                    }
                    else
                    {
                        _1208 = 0u;
                    }
                    float4 _1570[4] = { float4(as_type<float>(raw[_1190][0].x), as_type<float>(raw[_1190][1].x), as_type<float>(raw[_1190][2].x), as_type<float>(raw[_1190][3].x)), float4(as_type<float>(raw[_1190][0].y), as_type<float>(raw[_1190][1].y), as_type<float>(raw[_1190][2].y), as_type<float>(raw[_1190][3].y)), float4(as_type<float>(raw[_1190][0].z), as_type<float>(raw[_1190][1].z), as_type<float>(raw[_1190][2].z), as_type<float>(raw[_1190][3].z)), float4(as_type<float>(raw[_1190][0].w), as_type<float>(raw[_1190][1].w), as_type<float>(raw[_1190][2].w), as_type<float>(raw[_1190][3].w)) };
                    uint _1266;
                    for (uint _1201 = 0u, _1205 = _1208; _1201 < TOKENS; _1205 = _1266, _1201++)
                    {
                        if (((bits[_1190] >> _1201) & 1u) == 0u)
                        {
                            _1266 = _1205;
                            continue;
                        }
                        float _724 = as_type<float>(_404.route[(_428 + (_633 * 64u)) + _1205]);
                        uint _758 = (((_633 * p.max_tokens) + _1205) * p.x_stride) + (_1179 >> uint(1));
                        float4 param[4];
                        spvArrayCopyFromStackToStack1(param, _1570);
                        for (uint _1210 = 0u; _1210 < 4u; )
                        {
                            param_1[_1210] = fma(param[_1210].w, _751.x[_758].w, fma(param[_1210].z, _751.x[_758].z, fma(param[_1210].y, _751.x[_758].y, spvFMul(param[_1210].x, _751.x[_758].x))));
                            _1210++;
                            continue;
                        }
                        uint _793 = _1201 * 4u;
                        acc[_793] = fma(spvFMul(_724, 1.0), param_1[0], acc[_793]);
                        uint _1499 = _793 + 1u;
                        acc[_1499] = fma(_724, param_1[1], acc[_1499]);
                        uint _1519 = _793 + 2u;
                        acc[_1519] = fma(_724, param_1[2], acc[_1519]);
                        uint _1539 = _793 + 3u;
                        acc[_1539] = fma(_724, param_1[3], acc[_1539]);
                        _1266 = _1205 + uint(1);
                    }
                }
            }
        }
        float param_2[32];
        spvArrayCopyFromStackToStack1(param_2, acc);
        for (uint _1180 = 0u; _1180 < _290; )
        {
            partial[(_1180 * THREADS) + gl_LocalInvocationID.x] = param_2[_1180];
            _1180++;
            continue;
        }
        uint _1181;
        _1181 = _310;
        for (; _1181 >= 2u; _1181 /= 2u)
        {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (gl_LocalInvocationID.x < _1181)
            {
                for (uint _1183 = 0u; _1183 < _331; )
                {
                    uint _1139 = (_1183 * THREADS) + gl_LocalInvocationID.x;
                    partial[_1139] = spvFAdd(partial[_1139], partial[_1139 + _1181]);
                    _1183++;
                    continue;
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _829 = gl_LocalInvocationID.x % 8u;
        uint _830 = (gl_WorkGroupID.x * 8u) + _829;
        uint _834 = gl_LocalInvocationID.x / 8u;
        uint _835 = _366 + _834;
        bool _838 = gl_LocalInvocationID.x >= _837;
        bool _847;
        if (!_838)
        {
            _847 = _830 >= p.rows;
        }
        else
        {
            _847 = _838;
        }
        if (_847 || (_835 >= _374))
        {
            break;
        }
        uint _862 = (_835 * p.y_stride) + _830;
        uint _874 = (((_834 * 4u) + (gl_LocalInvocationID.x % 4u)) * THREADS) + (_829 / 4u);
        float _1182;
        if (p.accumulate != 0u)
        {
            _1182 = spvFAdd(partial[_874], _886.y[_862]);
        }
        else
        {
            _1182 = partial[_874];
        }
        _886.y[_862] = _1182;
        break;
    } while(false);
}


// Written by build_shaders.py from shaders/expert_up.comp; do not edit. Compile without fast math.
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
constant uint _370 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _373 = (THREADS * TOKENS);
constant uint _374 = (_373 * 4u);
constant uint _390 = (THREADS / 2u);
constant uint _411 = (TOKENS * 4u);

struct Route
{
    uint route[1];
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
};

constant uint _581 = (TOKENS * 4u);
constant bool _614 = (TOKENS >= 4u);
constant bool _616 = (_614 && false);
constant int _617 = _616 ? 2 : 2;
constant uint _618 = (uint(_617) + 0u);
constant bool _665 = (TOKENS >= 4u);
constant bool _666 = (_665 && false);
constant int _667 = _666 ? 2 : 2;
constant uint _668 = (uint(_667) + 0u);

struct X
{
    float4 x[1];
};

constant bool _788 = (TOKENS >= 4u);
constant bool _789 = (_788 && false);
constant int _790 = _789 ? 2 : 2;
constant uint _791 = (uint(_790) + 0u);
constant uint _792 = (_791 * THREADS);
constant uint _811 = (8u * TOKENS);

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _864 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_864, 1u, 1u);

kernel void expert_up_fp32(constant Push& p [[buffer(0)]], const device Weights& _209 [[buffer(1)]], const device X& _731 [[buffer(2)]], device Y& _845 [[buffer(3)]], const device Route& _469 [[buffer(4)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_374];
    do
    {
        uint _464 = gl_WorkGroupID.z * TOKENS;
        if (gl_WorkGroupID.y >= _469.route[0])
        {
            break;
        }
        uint _480 = gl_WorkGroupID.y * 4u;
        uint _481 = 16u + _480;
        uint _488 = _480 + 17u;
        uint _490 = _469.route[_488];
        bool _493 = _464 >= _490;
        bool _509;
        if (!_493)
        {
            _509 = (_469.route[_481] - p.first_expert) >= p.experts;
        }
        else
        {
            _509 = _493;
        }
        if (_509)
        {
            break;
        }
        uint _529 = (p.first + ((_469.route[_481] - p.first_expert) * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
        uint _539 = (16u + (p.slots * 4u)) + (gl_WorkGroupID.y * 64u);
        uint x_at[8];
        for (uint _1228 = 0u; _1228 < TOKENS; )
        {
            x_at[_1228] = _469.route[_539 + min((_464 + _1228), (_490 - 1u))] * p.x_stride;
            _1228++;
            continue;
        }
        uint _573 = _490 - _464;
        float acc[32];
        for (uint _1229 = 0u; _1229 < _581; )
        {
            acc[_1229] = 0.0;
            _1229++;
            continue;
        }
        uint _881 = ((p.cols + 3u) / 4u) * 2u;
        uint4 raw[2][4];
        float param_1[4];
        for (uint _1230 = gl_LocalInvocationID.x; _1230 < _881; _1230 += _792)
        {
            for (uint _1238 = 0u; _1238 < 2u; _1238++)
            {
                bool _619 = _1238 < _618;
                bool _628;
                if (_619)
                {
                    _628 = (_1230 + (_1238 * THREADS)) < _881;
                }
                else
                {
                    _628 = _619;
                }
                if (_628)
                {
                    uint _634 = _1230 + (_1238 * THREADS);
                    uint _888 = _634 >> uint(1);
                    uint _889 = _888 * 4u;
                    uint _896 = (_529 + (_888 * 8u)) + (_634 & 1u);
                    uint4 _1272;
                    if (_889 < p.cols)
                    {
                        _1272 = _209.weights[_896];
                    }
                    else
                    {
                        _1272 = uint4(0u);
                    }
                    uint4 _1309;
                    if ((_889 + 1u) < p.cols)
                    {
                        _1309 = _209.weights[_896 + 2u];
                    }
                    else
                    {
                        _1309 = uint4(0u);
                    }
                    uint4 _1327;
                    if ((_889 + 2u) < p.cols)
                    {
                        _1327 = _209.weights[_896 + 4u];
                    }
                    else
                    {
                        _1327 = uint4(0u);
                    }
                    uint4 _1345;
                    if ((_889 + 3u) < p.cols)
                    {
                        _1345 = _209.weights[_896 + 6u];
                    }
                    else
                    {
                        _1345 = uint4(0u);
                    }
                    uint4 _1474[4] = { _1272, _1309, _1327, _1345 };
                    spvArrayCopyFromStackToStack1(raw[_1238], _1474);
                }
            }
            for (uint _1239 = 0u; _1239 < 2u; _1239++)
            {
                uint _663 = _1230 + (_1239 * THREADS);
                if ((_1239 >= _668) || (_663 >= _881))
                {
                    continue;
                }
                float4 _1483[4] = { float4(as_type<float>(raw[_1239][0].x), as_type<float>(raw[_1239][1].x), as_type<float>(raw[_1239][2].x), as_type<float>(raw[_1239][3].x)), float4(as_type<float>(raw[_1239][0].y), as_type<float>(raw[_1239][1].y), as_type<float>(raw[_1239][2].y), as_type<float>(raw[_1239][3].y)), float4(as_type<float>(raw[_1239][0].z), as_type<float>(raw[_1239][1].z), as_type<float>(raw[_1239][2].z), as_type<float>(raw[_1239][3].z)), float4(as_type<float>(raw[_1239][0].w), as_type<float>(raw[_1239][1].w), as_type<float>(raw[_1239][2].w), as_type<float>(raw[_1239][3].w)) };
                for (uint _1243 = 0u; _1243 < TOKENS; _1243 += 4u)
                {
                    if ((_1243 != 0u) && (_1243 >= _573))
                    {
                        continue;
                    }
                    for (uint _1244 = _1243; _1244 < (_1243 + 4u); _1244++)
                    {
                        if (_1244 >= TOKENS)
                        {
                            continue;
                        }
                        uint _740 = x_at[_1244] + (_663 >> uint(1));
                        float4 param[4];
                        spvArrayCopyFromStackToStack1(param, _1483);
                        for (uint _1247 = 0u; _1247 < 4u; )
                        {
                            param_1[_1247] = fma(param[_1247].w, _731.x[_740].w, fma(param[_1247].z, _731.x[_740].z, fma(param[_1247].y, _731.x[_740].y, spvFMul(param[_1247].x, _731.x[_740].x))));
                            _1247++;
                            continue;
                        }
                        uint _765 = _1244 * 4u;
                        acc[_765] = spvFAdd(acc[_765], param_1[0]);
                        uint _1418 = _765 + 1u;
                        acc[_1418] += param_1[1];
                        uint _1435 = _765 + 2u;
                        acc[_1435] += param_1[2];
                        uint _1452 = _765 + 3u;
                        acc[_1452] += param_1[3];
                    }
                }
            }
        }
        float param_2[32];
        spvArrayCopyFromStackToStack1(param_2, acc);
        for (uint _1231 = 0u; _1231 < _370; )
        {
            partial[(_1231 * THREADS) + gl_LocalInvocationID.x] = param_2[_1231];
            _1231++;
            continue;
        }
        uint _1232;
        _1232 = _390;
        for (; _1232 >= 2u; _1232 /= 2u)
        {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (gl_LocalInvocationID.x < _1232)
            {
                for (uint _1235 = 0u; _1235 < _411; )
                {
                    uint _1099 = (_1235 * THREADS) + gl_LocalInvocationID.x;
                    partial[_1099] = spvFAdd(partial[_1099], partial[_1099 + _1232]);
                    _1235++;
                    continue;
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _804 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _809 = _464 + (gl_LocalInvocationID.x / 8u);
        bool _812 = gl_LocalInvocationID.x >= _811;
        bool _821;
        if (!_812)
        {
            _821 = _804 >= p.rows;
        }
        else
        {
            _821 = _812;
        }
        if (_821 || (_809 >= _490))
        {
            break;
        }
        uint _833 = gl_LocalInvocationID.x % 8u;
        uint _1137 = ((((gl_LocalInvocationID.x / 8u) * 4u) + (_833 % 4u)) * THREADS) + (_833 / 4u);
        float _1148 = -abs(partial[_1137]);
        float _1233;
        do
        {
            if (_1148 < (-87.0))
            {
                _1233 = 0.0;
                break;
            }
            float _1177 = floor(fma(_1148, 1.44269502162933349609375, 0.5));
            float _1183 = fma(_1177, 0.00021219444170128554105758666992188, fma(_1177, -0.693359375, _1148));
            _1233 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _1183, 0.00139819993637502193450927734375), _1183, 0.008333452045917510986328125), _1183, 0.0416657961905002593994140625), _1183, 0.1666666567325592041015625), _1183, 0.5), _1183), _1183, _1183), 1.0) * as_type<float>(uint(int(_1177) + 127) << uint(23));
            break;
        } while(false);
        float _1234;
        if (partial[_1137] < 0.0)
        {
            _1234 = partial[_1137] * _1233;
        }
        else
        {
            _1234 = partial[_1137];
        }
        _845.y[(((gl_WorkGroupID.y * p.max_tokens) + _809) * p.y_stride) + _804] = _1234 / (1.0 + _1233);
        break;
    } while(false);
}


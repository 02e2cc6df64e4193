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
constant uint _378 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _381 = (THREADS * TOKENS);
constant uint _382 = (_381 * 4u);
constant uint _407 = (64u * TOKENS);
constant uint _444 = (64u * TOKENS);

struct Push
{
    uint first;
    uint tile_vectors;
    uint expert_vectors;
    uint first_expert;
    uint rows;
    uint cols;
    uint x_stride;
    uint y_stride;
    uint score_stride;
};

constant bool _503 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Scores
{
    float scores[1];
};

constant bool _647 = (TOKENS == 1u);
constant uint _720 = (TOKENS * 4u);
constant bool _752 = (TOKENS >= 4u);
constant bool _754 = (_752 && false);
constant int _755 = _754 ? 2 : 2;
constant uint _756 = (uint(_755) + 0u);
constant bool _812 = (TOKENS >= 4u);
constant bool _813 = (_812 && false);
constant int _814 = _813 ? 2 : 2;
constant uint _815 = (uint(_814) + 0u);

struct X
{
    float4 x[1];
};

constant bool _935 = (TOKENS >= 4u);
constant bool _936 = (_935 && false);
constant int _937 = _936 ? 2 : 2;
constant uint _938 = (uint(_937) + 0u);
constant uint _939 = (_938 * THREADS);

struct Y
{
    float y[1];
};

constant bool _1010 = (TOKENS > 1u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1016 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1016, 1u, 1u);

kernel void expert_up_fp32(constant Push& p [[buffer(0)]], const device Weights& _215 [[buffer(1)]], const device X& _878 [[buffer(2)]], device Y& _992 [[buffer(3)]], const device Scores& _541 [[buffer(4)]], const device Step& _511 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_382];
    threadgroup float chunk_sums[_444];
    do
    {
        uint _501 = p.first_expert + gl_WorkGroupID.y;
        uint _1402;
        if (_503)
        {
            _1402 = 1u;
        }
        else
        {
            _1402 = _511.step_[0];
        }
        uint2 mask = uint2(0u);
        for (uint _1403 = 0u; _1403 < _1402; _1403 += TOKENS)
        {
            for (uint _1480 = 0u; _1480 < TOKENS; _1480++)
            {
                uint _544 = _1403 + _1480;
                if ((_544 < _1402) && (_541.scores[(_544 * p.score_stride) + _501] > 0.0))
                {
                    uint _567 = _544 / 32u;
                    mask[_567] |= (1u << (_544 % 32u));
                }
            }
        }
        uint _595 = (p.first + (gl_WorkGroupID.y * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
        uint _602 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _611 = uint(int(popcount(mask.x)) + int(popcount(mask.y)));
        if (_611 == 0u)
        {
            break;
        }
        uint _1009;
        uint token[8];
        uint x_at[8];
        float acc[32];
        uint4 raw[2][4];
        float param_1[4];
        for (uint _1404 = _611; _1404 != 0u; _1404 = _1009)
        {
            uint _638 = min(_1404, TOKENS);
            uint _1476;
            for (uint _1405 = 0u, _1477 = 0u; _1405 < TOKENS; _1477 = _1476, _1405++)
            {
                if (_647)
                {
                    mask.x = 0u;
                    _1476 = _1477;
                }
                else
                {
                    uint _1478;
                    if (mask.x != 0u)
                    {
                        uint _658 = mask.x;
                        uint _661 = mask.x;
                        mask.x &= (mask.x - 1u);
                        _1478 = uint(int(popcount((~_658) & (_661 - 1u))));
                    }
                    else
                    {
                        uint _1479;
                        if (mask.y != 0u)
                        {
                            uint _681 = mask.y;
                            uint _684 = mask.y;
                            mask.y &= (mask.y - 1u);
                            _1479 = uint(32 + int(popcount((~_681) & (_684 - 1u))));
                        }
                        else
                        {
                            _1479 = _1477;
                        }
                        _1478 = _1479;
                    }
                    _1476 = _1478;
                }
                token[_1405] = _1476;
                x_at[_1405] = _1476 * p.x_stride;
            }
            for (uint _1406 = 0u; _1406 < _720; )
            {
                acc[_1406] = 0.0;
                _1406++;
                continue;
            }
            uint _1035 = ((p.cols + 3u) / 4u) * 2u;
            for (uint _1407 = gl_LocalInvocationID.x; _1407 < _1035; _1407 += _939)
            {
                for (uint _1433 = 0u; _1433 < 2u; _1433++)
                {
                    bool _757 = _1433 < _756;
                    bool _766;
                    if (_757)
                    {
                        _766 = (_1407 + (_1433 * THREADS)) < _1035;
                    }
                    else
                    {
                        _766 = _757;
                    }
                    if (_766)
                    {
                        uint _772 = _1407 + (_1433 * THREADS);
                        uint _1042 = _772 >> uint(1);
                        uint _1043 = _1042 * 4u;
                        uint _1050 = (_595 + (_1042 * 8u)) + (_772 & 1u);
                        uint4 _1471;
                        if (_1043 < p.cols)
                        {
                            _1471 = _215.weights[_1050];
                        }
                        else
                        {
                            _1471 = uint4(0u);
                        }
                        uint4 _1538;
                        if ((_1043 + 1u) < p.cols)
                        {
                            _1538 = _215.weights[_1050 + 2u];
                        }
                        else
                        {
                            _1538 = uint4(0u);
                        }
                        uint4 _1556;
                        if ((_1043 + 2u) < p.cols)
                        {
                            _1556 = _215.weights[_1050 + 4u];
                        }
                        else
                        {
                            _1556 = uint4(0u);
                        }
                        uint4 _1574;
                        if ((_1043 + 3u) < p.cols)
                        {
                            _1574 = _215.weights[_1050 + 6u];
                        }
                        else
                        {
                            _1574 = uint4(0u);
                        }
                        uint4 _1776[4] = { _1471, _1538, _1556, _1574 };
                        spvArrayCopyFromStackToStack1(raw[_1433], _1776);
                    }
                }
                for (uint _1434 = 0u; _1434 < 2u; _1434++)
                {
                    uint _810 = _1407 + (_1434 * THREADS);
                    if ((_1434 >= _815) || (_810 >= _1035))
                    {
                        continue;
                    }
                    float4 _1785[4] = { float4(as_type<float>(raw[_1434][0].x), as_type<float>(raw[_1434][1].x), as_type<float>(raw[_1434][2].x), as_type<float>(raw[_1434][3].x)), float4(as_type<float>(raw[_1434][0].y), as_type<float>(raw[_1434][1].y), as_type<float>(raw[_1434][2].y), as_type<float>(raw[_1434][3].y)), float4(as_type<float>(raw[_1434][0].z), as_type<float>(raw[_1434][1].z), as_type<float>(raw[_1434][2].z), as_type<float>(raw[_1434][3].z)), float4(as_type<float>(raw[_1434][0].w), as_type<float>(raw[_1434][1].w), as_type<float>(raw[_1434][2].w), as_type<float>(raw[_1434][3].w)) };
                    for (uint _1438 = 0u; _1438 < TOKENS; _1438 += 4u)
                    {
                        if ((_1438 != 0u) && (_1438 >= _1404))
                        {
                            continue;
                        }
                        for (uint _1443 = _1438; _1443 < (_1438 + 4u); _1443++)
                        {
                            if (_1443 >= TOKENS)
                            {
                                continue;
                            }
                            uint _887 = x_at[_1443] + (_810 >> uint(1));
                            float4 param[4];
                            spvArrayCopyFromStackToStack1(param, _1785);
                            for (uint _1446 = 0u; _1446 < 4u; )
                            {
                                param_1[_1446] = fma(param[_1446].w, _878.x[_887].w, fma(param[_1446].z, _878.x[_887].z, fma(param[_1446].y, _878.x[_887].y, spvFMul(param[_1446].x, _878.x[_887].x))));
                                _1446++;
                                continue;
                            }
                            uint _912 = _1443 * 4u;
                            acc[_912] = spvFAdd(acc[_912], param_1[0]);
                            uint _1647 = _912 + 1u;
                            acc[_1647] += param_1[1];
                            uint _1664 = _912 + 2u;
                            acc[_1664] += param_1[2];
                            uint _1681 = _912 + 3u;
                            acc[_1681] += param_1[3];
                        }
                    }
                }
            }
            float param_2[32];
            spvArrayCopyFromStackToStack1(param_2, acc);
            for (uint _1408 = 0u; _1408 < _378; )
            {
                partial[(_1408 * THREADS) + gl_LocalInvocationID.x] = param_2[_1408];
                _1408++;
                continue;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint _1409 = gl_LocalInvocationID.x; _1409 < _407; _1409 += THREADS)
            {
                uint _1253 = (((_1409 / 16u) * THREADS) + ((_1409 / 8u) % 2u)) + (2u * (_1409 % 8u));
                float _1432;
                _1432 = partial[_1253];
                for (uint _1430 = 16u; _1430 < THREADS; )
                {
                    _1432 = spvFAdd(_1432, partial[_1253 + _1430]);
                    _1430 += 16u;
                    continue;
                }
                chunk_sums[_1409] = _1432;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            uint _1415;
            _1415 = 0u;
            uint _1484;
            for (uint _1410 = 0u; _1410 < TOKENS; _1415 = _1484, _1410++)
            {
                if ((gl_LocalInvocationID.x / 8u) == _1410)
                {
                    _1484 = token[_1410];
                }
                else
                {
                    _1484 = _1415;
                }
            }
            bool _968 = gl_LocalInvocationID.x < (8u * _638);
            bool _976;
            if (_968)
            {
                _976 = _602 < p.rows;
            }
            else
            {
                _976 = _968;
            }
            if (_976)
            {
                uint _983 = gl_LocalInvocationID.x % 8u;
                uint _1294 = (((((gl_LocalInvocationID.x / 8u) * 4u) + (_983 % 4u)) * 2u) + (_983 / 4u)) * 8u;
                float _988 = spvFMul((((((spvFAdd(chunk_sums[_1294], chunk_sums[_1294 + 1u]) + chunk_sums[_1294 + 2u]) + chunk_sums[_1294 + 3u]) + chunk_sums[_1294 + 4u]) + chunk_sums[_1294 + 5u]) + chunk_sums[_1294 + 6u]) + chunk_sums[_1294 + 7u], 1.0);
                float _1322 = -abs(_988);
                float _1416;
                do
                {
                    if (_1322 < (-87.0))
                    {
                        _1416 = 0.0;
                        break;
                    }
                    float _1351 = floor(fma(_1322, 1.44269502162933349609375, 0.5));
                    float _1357 = fma(_1351, 0.00021219444170128554105758666992188, fma(_1351, -0.693359375, _1322));
                    _1416 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _1357, 0.00139819993637502193450927734375), _1357, 0.008333452045917510986328125), _1357, 0.0416657961905002593994140625), _1357, 0.1666666567325592041015625), _1357, 0.5), _1357), _1357, _1357), 1.0) * as_type<float>(uint(int(_1351) + 127) << uint(23));
                    break;
                } while(false);
                float _1417;
                if (_988 < 0.0)
                {
                    _1417 = _988 * _1416;
                }
                else
                {
                    _1417 = _988;
                }
                _992.y[(((_501 * 64u) + _1415) * p.y_stride) + _602] = _1417 / (1.0 + _1416);
            }
            _1009 = _1404 - _638;
            if (_1010 && (_1009 != 0u))
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
        }
        break;
    } while(false);
}


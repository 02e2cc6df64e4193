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
constant uint _394 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _397 = (THREADS * TOKENS);
constant uint _398 = (_397 * 4u);
constant uint _423 = (64u * TOKENS);
constant uint _460 = (64u * TOKENS);

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

constant bool _519 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Scores
{
    float scores[1];
};

constant bool _663 = (TOKENS == 1u);
constant uint _736 = (TOKENS * 4u);
constant bool _768 = (TOKENS >= 4u);
constant bool _770 = (_768 && false);
constant int _771 = _770 ? 2 : 2;
constant uint _772 = (uint(_771) + 0u);
constant bool _828 = (TOKENS >= 4u);
constant bool _829 = (_828 && false);
constant int _830 = _829 ? 2 : 2;
constant uint _831 = (uint(_830) + 0u);

struct X
{
    float4 x[1];
};

constant bool _976 = (TOKENS >= 4u);
constant bool _977 = (_976 && false);
constant int _978 = _977 ? 2 : 2;
constant uint _979 = (uint(_978) + 0u);
constant uint _980 = (_979 * THREADS);

struct Y
{
    float y[1];
};

constant bool _1051 = (TOKENS > 1u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1057 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1057, 1u, 1u);

kernel void expert_up_fp32(constant Push& p [[buffer(0)]], const device Weights& _221 [[buffer(1)]], const device X& _895 [[buffer(2)]], device Y& _1033 [[buffer(3)]], const device Scores& _557 [[buffer(4)]], const device Step& _527 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_398];
    threadgroup float chunk_sums[_460];
    do
    {
        uint _517 = p.first_expert + gl_WorkGroupID.y;
        uint _1450;
        if (_519)
        {
            _1450 = 1u;
        }
        else
        {
            _1450 = _527.step_[0];
        }
        uint2 mask = uint2(0u);
        for (uint _1451 = 0u; _1451 < _1450; _1451 += TOKENS)
        {
            for (uint _1531 = 0u; _1531 < TOKENS; _1531++)
            {
                uint _560 = _1451 + _1531;
                if ((_560 < _1450) && (_557.scores[(_560 * p.score_stride) + _517] > 0.0))
                {
                    uint _583 = _560 / 32u;
                    mask[_583] |= (1u << (_560 % 32u));
                }
            }
        }
        uint _611 = (p.first + (gl_WorkGroupID.y * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
        uint _618 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _627 = uint(int(popcount(mask.x)) + int(popcount(mask.y)));
        if (_627 == 0u)
        {
            break;
        }
        uint _1050;
        uint token[8];
        uint x_at[8];
        float acc[32];
        uint4 raw[2][4];
        float _1152[4];
        for (uint _1452 = _627; _1452 != 0u; _1452 = _1050)
        {
            uint _654 = min(_1452, TOKENS);
            uint _1527;
            for (uint _1453 = 0u, _1528 = 0u; _1453 < TOKENS; _1528 = _1527, _1453++)
            {
                if (_663)
                {
                    mask.x = 0u;
                    _1527 = _1528;
                }
                else
                {
                    uint _1529;
                    if (mask.x != 0u)
                    {
                        uint _674 = mask.x;
                        uint _677 = mask.x;
                        mask.x &= (mask.x - 1u);
                        _1529 = uint(int(popcount((~_674) & (_677 - 1u))));
                    }
                    else
                    {
                        uint _1530;
                        if (mask.y != 0u)
                        {
                            uint _697 = mask.y;
                            uint _700 = mask.y;
                            mask.y &= (mask.y - 1u);
                            _1530 = uint(32 + int(popcount((~_697) & (_700 - 1u))));
                        }
                        else
                        {
                            _1530 = _1528;
                        }
                        _1529 = _1530;
                    }
                    _1527 = _1529;
                }
                token[_1453] = _1527;
                x_at[_1453] = _1527 * p.x_stride;
            }
            for (uint _1454 = 0u; _1454 < _736; )
            {
                acc[_1454] = 0.0;
                _1454++;
                continue;
            }
            uint _1074 = ((p.cols + 3u) / 4u) * 2u;
            for (uint _1455 = gl_LocalInvocationID.x; _1455 < _1074; _1455 += _980)
            {
                for (uint _1481 = 0u; _1481 < 2u; _1481++)
                {
                    bool _773 = _1481 < _772;
                    bool _782;
                    if (_773)
                    {
                        _782 = (_1455 + (_1481 * THREADS)) < _1074;
                    }
                    else
                    {
                        _782 = _773;
                    }
                    if (_782)
                    {
                        uint _788 = _1455 + (_1481 * THREADS);
                        uint _1081 = _788 >> uint(1);
                        uint _1082 = _1081 * 4u;
                        uint _1089 = (_611 + (_1081 * 8u)) + (_788 & 1u);
                        uint4 _1522;
                        if (_1082 < p.cols)
                        {
                            _1522 = _221.weights[_1089];
                        }
                        else
                        {
                            _1522 = uint4(0u);
                        }
                        uint4 _1592;
                        if ((_1082 + 1u) < p.cols)
                        {
                            _1592 = _221.weights[_1089 + 2u];
                        }
                        else
                        {
                            _1592 = uint4(0u);
                        }
                        uint4 _1610;
                        if ((_1082 + 2u) < p.cols)
                        {
                            _1610 = _221.weights[_1089 + 4u];
                        }
                        else
                        {
                            _1610 = uint4(0u);
                        }
                        uint4 _1628;
                        if ((_1082 + 3u) < p.cols)
                        {
                            _1628 = _221.weights[_1089 + 6u];
                        }
                        else
                        {
                            _1628 = uint4(0u);
                        }
                        uint4 _1859[4] = { _1522, _1592, _1610, _1628 };
                        spvArrayCopyFromStackToStack1(raw[_1481], _1859);
                    }
                }
                for (uint _1482 = 0u; _1482 < 2u; _1482++)
                {
                    uint _826 = _1455 + (_1482 * THREADS);
                    if ((_1482 >= _831) || (_826 >= _1074))
                    {
                        continue;
                    }
                    float4 _1868[4] = { float4(as_type<float>(raw[_1482][0].x), as_type<float>(raw[_1482][1].x), as_type<float>(raw[_1482][2].x), as_type<float>(raw[_1482][3].x)), float4(as_type<float>(raw[_1482][0].y), as_type<float>(raw[_1482][1].y), as_type<float>(raw[_1482][2].y), as_type<float>(raw[_1482][3].y)), float4(as_type<float>(raw[_1482][0].z), as_type<float>(raw[_1482][1].z), as_type<float>(raw[_1482][2].z), as_type<float>(raw[_1482][3].z)), float4(as_type<float>(raw[_1482][0].w), as_type<float>(raw[_1482][1].w), as_type<float>(raw[_1482][2].w), as_type<float>(raw[_1482][3].w)) };
                    for (uint _1486 = 0u; _1486 < TOKENS; _1486 += 4u)
                    {
                        if ((_1486 != 0u) && (_1486 >= _1452))
                        {
                            continue;
                        }
                        for (uint _1491 = _1486; _1491 < (_1486 + 4u); _1491++)
                        {
                            if (_1491 >= TOKENS)
                            {
                                continue;
                            }
                            uint _904 = x_at[_1491] + (_826 >> uint(1));
                            float4 _1150[4];
                            spvArrayCopyFromStackToStack1(_1150, _1868);
                            for (uint _1494 = 0u; _1494 < 4u; )
                            {
                                _1152[_1494] = fma(_1150[_1494].w, _895.x[_904].w, fma(_1150[_1494].z, _895.x[_904].z, fma(_1150[_1494].y, _895.x[_904].y, spvFMul(_1150[_1494].x, _895.x[_904].x))));
                                _1494++;
                                continue;
                            }
                            uint _941 = _1491 * 4u;
                            acc[_941] = spvFAdd(acc[_941], _1152[0]);
                            uint _1701 = _941 + 1u;
                            acc[_1701] += _1152[1];
                            uint _1726 = _941 + 2u;
                            acc[_1726] += _1152[2];
                            uint _1751 = _941 + 3u;
                            acc[_1751] += _1152[3];
                        }
                    }
                }
            }
            float param[32];
            spvArrayCopyFromStackToStack1(param, acc);
            for (uint _1456 = 0u; _1456 < _394; )
            {
                partial[(_1456 * THREADS) + gl_LocalInvocationID.x] = param[_1456];
                _1456++;
                continue;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint _1457 = gl_LocalInvocationID.x; _1457 < _423; _1457 += THREADS)
            {
                uint _1301 = (((_1457 / 16u) * THREADS) + ((_1457 / 8u) % 2u)) + (2u * (_1457 % 8u));
                float _1480;
                _1480 = partial[_1301];
                for (uint _1478 = 16u; _1478 < THREADS; )
                {
                    _1480 = spvFAdd(_1480, partial[_1301 + _1478]);
                    _1478 += 16u;
                    continue;
                }
                chunk_sums[_1457] = _1480;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            uint _1463;
            _1463 = 0u;
            uint _1535;
            for (uint _1458 = 0u; _1458 < TOKENS; _1463 = _1535, _1458++)
            {
                if ((gl_LocalInvocationID.x / 8u) == _1458)
                {
                    _1535 = token[_1458];
                }
                else
                {
                    _1535 = _1463;
                }
            }
            bool _1009 = gl_LocalInvocationID.x < (8u * _654);
            bool _1017;
            if (_1009)
            {
                _1017 = _618 < p.rows;
            }
            else
            {
                _1017 = _1009;
            }
            if (_1017)
            {
                uint _1024 = gl_LocalInvocationID.x % 8u;
                uint _1342 = (((((gl_LocalInvocationID.x / 8u) * 4u) + (_1024 % 4u)) * 2u) + (_1024 / 4u)) * 8u;
                float _1029 = spvFMul((((((spvFAdd(chunk_sums[_1342], chunk_sums[_1342 + 1u]) + chunk_sums[_1342 + 2u]) + chunk_sums[_1342 + 3u]) + chunk_sums[_1342 + 4u]) + chunk_sums[_1342 + 5u]) + chunk_sums[_1342 + 6u]) + chunk_sums[_1342 + 7u], 1.0);
                float _1370 = -abs(_1029);
                float _1464;
                do
                {
                    if (_1370 < (-87.0))
                    {
                        _1464 = 0.0;
                        break;
                    }
                    float _1399 = floor(fma(_1370, 1.44269502162933349609375, 0.5));
                    float _1405 = fma(_1399, 0.00021219444170128554105758666992188, fma(_1399, -0.693359375, _1370));
                    _1464 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _1405, 0.00139819993637502193450927734375), _1405, 0.008333452045917510986328125), _1405, 0.0416657961905002593994140625), _1405, 0.1666666567325592041015625), _1405, 0.5), _1405), _1405, _1405), 1.0) * as_type<float>(uint(int(_1399) + 127) << uint(23));
                    break;
                } while(false);
                float _1465;
                if (_1029 < 0.0)
                {
                    _1465 = _1029 * _1464;
                }
                else
                {
                    _1465 = _1029;
                }
                _1033.y[(((_517 * 64u) + _1463) * p.y_stride) + _618] = _1465 / (1.0 + _1464);
            }
            _1050 = _1452 - _654;
            if (_1051 && (_1050 != 0u))
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
        }
        break;
    } while(false);
}


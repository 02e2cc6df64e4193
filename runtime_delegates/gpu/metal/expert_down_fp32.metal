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
constant uint _307 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _310 = (THREADS * TOKENS);
constant uint _311 = (_310 * 4u);
constant uint _336 = (64u * TOKENS);
constant uint _373 = (64u * TOKENS);
constant bool _425 = (TOKENS > 1u);

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
    uint all_experts;
    uint classes;
    uint flags;
    uint residual_stride;
};

constant uint _487 = (TOKENS * 4u);

struct Route
{
    uint route[1];
};

constant uint _604 = (1u << TOKENS);
constant uint _605 = (_604 - 1u);
constant uint _618 = (64u * TOKENS);
constant bool _709 = (TOKENS == 1u);
constant int _710 = _709 ? 4 : 4;
constant uint _711 = (uint(_710) + 0u);
constant bool _729 = (TOKENS == 1u);
constant bool _784 = (TOKENS == 1u);

struct X
{
    float4 x[1];
};

constant bool _836 = (TOKENS == 1u);
constant int _837 = _836 ? 4 : 4;
constant uint _838 = (uint(_837) + 0u);
constant bool _843 = (TOKENS != 1u);
constant bool _879 = (TOKENS != 1u);
constant bool _933 = (TOKENS == 1u);
constant bool _1029 = (TOKENS == 1u);
constant int _1030 = _1029 ? 4 : 4;
constant uint _1031 = (uint(_1030) + 0u);
constant uint _1056 = (8u * TOKENS);

struct Y
{
    float y[1];
};

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1127 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1127, 1u, 1u);

kernel void expert_down_fp32(constant Push& p [[buffer(0)]], const device Weights& _132 [[buffer(1)]], const device X& _803 [[buffer(2)]], device Y& _1096 [[buffer(3)]], const device Route& _506 [[buffer(4)]], const device Step& _432 [[buffer(5)]], const device Residual& _1112 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_311];
    threadgroup float chunk_sums[_373];
    threadgroup uint counts[8];
    threadgroup uint slot_expert[64];
    threadgroup uint slot_mask[64];
    threadgroup float slot_weight[_618];
    do
    {
        uint _424 = gl_WorkGroupID.y * TOKENS;
        bool _437;
        if (_425)
        {
            _437 = _424 >= _432.step_[0];
        }
        else
        {
            _437 = _425;
        }
        if (_437)
        {
            break;
        }
        uint _1140 = ((p.cols + 3u) / 4u) * 2u;
        uint _455 = THREADS / p.classes;
        uint _459 = gl_LocalInvocationID.x / _455;
        uint _463 = 64u / p.classes;
        uint _1148 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _479 = 16u + ((_1148 * p.classes) * 4u);
        float acc[32];
        for (uint _1457 = 0u; _1457 < _487; )
        {
            acc[_1457] = 0.0;
            _1457++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _506.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[4][4];
        float4 hidden[4][1];
        float param_1[4];
        uint _1469;
        for (uint _1458 = 0u, _1470 = 1u; _1458 < _1140; _1470 = _1469, _1458 += _455)
        {
            _1469 = _1470;
            uint _1528;
            for (uint _1468 = 0u; _1468 < _1469; _1469 = _1528, _1468 += _463)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _1472;
                _1472 = gl_LocalInvocationID.x;
                for (; _1472 < 64u; _1472 += THREADS)
                {
                    uint _557 = ((_1472 / _463) * _1148) + min((_1468 + (_1472 % _463)), (_1148 - 1u));
                    uint _561 = 16u + (_557 * 4u);
                    uint _566 = _506.route[_561] - p.first_expert;
                    bool _575 = _566 < p.experts;
                    slot_expert[_1472] = _575 ? _566 : 0u;
                    uint _1530;
                    if (_575)
                    {
                        _1530 = (_506.route[_561 + uint((_424 < 32u) ? 1 : 2)] >> (_424 & 31u)) & _605;
                    }
                    else
                    {
                        _1530 = 0u;
                    }
                    slot_mask[_1472] = _1530;
                    for (uint _1531 = 0u; _1531 < TOKENS; )
                    {
                        slot_weight[(_1472 * TOKENS) + _1531] = as_type<float>(_506.route[((_479 + (_557 * 64u)) + _424) + _1531]);
                        _1531++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _1528 = _1469;
                for (uint _1473 = 0u; _1473 < p.classes; )
                {
                    _1528 = max(_1528, counts[_1473]);
                    _1473++;
                    continue;
                }
                uint _664 = _1458 + (gl_LocalInvocationID.x % _455);
                uint _668 = _459 * _463;
                uint _1478;
                if ((_664 < _1140) && (counts[_459] > _1468))
                {
                    _1478 = min((counts[_459] - _1468), _463);
                }
                else
                {
                    _1478 = 0u;
                }
                for (uint _1479 = 0u; _1479 < _1478; _1479 += _1031)
                {
                    for (uint _1482 = 0u; _1482 < 4u; _1482++)
                    {
                        if (_1482 >= _711)
                        {
                            continue;
                        }
                        uint _720 = _1479 + _1482;
                        uint _724 = _668 + min(_720, (_1478 - 1u));
                        bool _745;
                        if (!_729)
                        {
                            bool _737 = _720 < _1478;
                            bool _744;
                            if (_737)
                            {
                                _744 = slot_mask[_724] != 0u;
                            }
                            else
                            {
                                _744 = _737;
                            }
                            _745 = _744;
                        }
                        else
                        {
                            _745 = _729;
                        }
                        if (_745)
                        {
                            uint _1155 = _664 >> uint(1);
                            uint _1156 = _1155 * 4u;
                            uint _1163 = (((p.first + (slot_expert[_724] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors)) + (_1155 * 8u)) + (_664 & 1u);
                            uint4 _1524;
                            if (_1156 < p.cols)
                            {
                                _1524 = _132.weights[_1163];
                            }
                            else
                            {
                                _1524 = uint4(0u);
                            }
                            uint4 _1725;
                            if ((_1156 + 1u) < p.cols)
                            {
                                _1725 = _132.weights[_1163 + 2u];
                            }
                            else
                            {
                                _1725 = uint4(0u);
                            }
                            uint4 _1743;
                            if ((_1156 + 2u) < p.cols)
                            {
                                _1743 = _132.weights[_1163 + 4u];
                            }
                            else
                            {
                                _1743 = uint4(0u);
                            }
                            uint4 _1761;
                            if ((_1156 + 3u) < p.cols)
                            {
                                _1761 = _132.weights[_1163 + 6u];
                            }
                            else
                            {
                                _1761 = uint4(0u);
                            }
                            uint4 _1958[4] = { _1524, _1725, _1743, _1761 };
                            spvArrayCopyFromStackToStack1(raw[_1482], _1958);
                        }
                        if (_784)
                        {
                            hidden[_1482][0u] = _803.x[(((p.first_expert + slot_expert[_724]) * 64u) * p.x_stride) + (_664 >> uint(1))];
                        }
                    }
                    for (uint _1483 = 0u; _1483 < 4u; _1483++)
                    {
                        bool _839 = _1483 >= _838;
                        bool _852;
                        if (!_839)
                        {
                            bool _851;
                            if (_843)
                            {
                                _851 = (_1479 + _1483) >= _1478;
                            }
                            else
                            {
                                _851 = _843;
                            }
                            _852 = _851;
                        }
                        else
                        {
                            _852 = _839;
                        }
                        if (_852)
                        {
                            continue;
                        }
                        uint _864 = _668 + min((_1479 + _1483), (_1478 - 1u));
                        uint _1490;
                        if ((_1479 + _1483) < _1478)
                        {
                            _1490 = slot_mask[_864];
                        }
                        else
                        {
                            _1490 = 0u;
                        }
                        if (_879 && (_1490 == 0u))
                        {
                            continue;
                        }
                        float4 _1967[4] = { float4(as_type<float>(raw[_1483][0].x), as_type<float>(raw[_1483][1].x), as_type<float>(raw[_1483][2].x), as_type<float>(raw[_1483][3].x)), float4(as_type<float>(raw[_1483][0].y), as_type<float>(raw[_1483][1].y), as_type<float>(raw[_1483][2].y), as_type<float>(raw[_1483][3].y)), float4(as_type<float>(raw[_1483][0].z), as_type<float>(raw[_1483][1].z), as_type<float>(raw[_1483][2].z), as_type<float>(raw[_1483][3].z)), float4(as_type<float>(raw[_1483][0].w), as_type<float>(raw[_1483][1].w), as_type<float>(raw[_1483][2].w), as_type<float>(raw[_1483][3].w)) };
                        uint _911 = ((p.first_expert + slot_expert[_864]) * 64u) + _424;
                        for (uint _1494 = 0u; _1494 < TOKENS; _1494++)
                        {
                            float4 _1514;
                            if (_933)
                            {
                                _1514 = hidden[_1483][0u];
                            }
                            else
                            {
                                _1514 = _803.x[(p.x_stride * (_911 + _1494)) + (_664 >> uint(1))];
                            }
                            float4 param[4];
                            spvArrayCopyFromStackToStack1(param, _1967);
                            for (uint _1496 = 0u; _1496 < 4u; )
                            {
                                param_1[_1496] = fma(param[_1496].w, _1514.w, fma(param[_1496].z, _1514.z, fma(param[_1496].y, _1514.y, spvFMul(param[_1496].x, _1514.x))));
                                _1496++;
                                continue;
                            }
                            uint _972 = (_864 * TOKENS) + _1494;
                            uint _995 = _1494 * 4u;
                            bool _1009 = ((_1490 >> _1494) & 1u) != 0u;
                            float _1501;
                            if (_1009)
                            {
                                _1501 = fma(spvFMul(slot_weight[_972], 1.0), param_1[0], acc[_995]);
                            }
                            else
                            {
                                _1501 = acc[_995];
                            }
                            acc[_995] = _1501;
                            uint _1863 = _995 + 1u;
                            float _1879;
                            if (_1009)
                            {
                                _1879 = fma(slot_weight[_972], param_1[1], acc[_1863]);
                            }
                            else
                            {
                                _1879 = acc[_1863];
                            }
                            acc[_1863] = _1879;
                            uint _1894 = _995 + 2u;
                            float _1910;
                            if (_1009)
                            {
                                _1910 = fma(slot_weight[_972], param_1[2], acc[_1894]);
                            }
                            else
                            {
                                _1910 = acc[_1894];
                            }
                            acc[_1894] = _1910;
                            uint _1925 = _995 + 3u;
                            float _1941;
                            if (_1009)
                            {
                                _1941 = fma(slot_weight[_972], param_1[3], acc[_1925]);
                            }
                            else
                            {
                                _1941 = acc[_1925];
                            }
                            acc[_1925] = _1941;
                        }
                    }
                }
            }
        }
        float param_2[32];
        spvArrayCopyFromStackToStack1(param_2, acc);
        for (uint _1459 = 0u; _1459 < _307; )
        {
            partial[(_1459 * THREADS) + gl_LocalInvocationID.x] = param_2[_1459];
            _1459++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1460 = gl_LocalInvocationID.x; _1460 < _336; _1460 += THREADS)
        {
            uint _1383 = (((_1460 / 16u) * THREADS) + ((_1460 / 8u) % 2u)) + (2u * (_1460 % 8u));
            float _1467;
            _1467 = partial[_1383];
            for (uint _1465 = 16u; _1465 < THREADS; )
            {
                _1467 = spvFAdd(_1467, partial[_1383 + _1465]);
                _1465 += 16u;
                continue;
            }
            chunk_sums[_1460] = _1467;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _1049 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _1054 = _424 + (gl_LocalInvocationID.x / 8u);
        bool _1057 = gl_LocalInvocationID.x >= _1056;
        bool _1066;
        if (!_1057)
        {
            _1066 = _1049 >= p.rows;
        }
        else
        {
            _1066 = _1057;
        }
        if (_1066)
        {
            break;
        }
        uint _1077 = (_1054 * p.y_stride) + _1049;
        uint _1082 = gl_LocalInvocationID.x % 8u;
        uint _1424 = (((((gl_LocalInvocationID.x / 8u) * 4u) + (_1082 % 4u)) * 2u) + (_1082 / 4u)) * 8u;
        float _1708 = (((((spvFAdd(chunk_sums[_1424], chunk_sums[_1424 + 1u]) + chunk_sums[_1424 + 2u]) + chunk_sums[_1424 + 3u]) + chunk_sums[_1424 + 4u]) + chunk_sums[_1424 + 5u]) + chunk_sums[_1424 + 6u]) + chunk_sums[_1424 + 7u];
        float _1463;
        if ((p.flags & 1u) != 0u)
        {
            _1463 = spvFAdd(_1708, _1096.y[_1077]);
        }
        else
        {
            _1463 = _1708;
        }
        float _1464;
        if ((p.flags & 2u) != 0u)
        {
            _1464 = spvFAdd(_1463, _1112.residual[(_1054 * p.residual_stride) + _1049]);
        }
        else
        {
            _1464 = _1463;
        }
        _1096.y[_1077] = _1464;
        break;
    } while(false);
}


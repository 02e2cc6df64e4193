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
constant uint _500 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _503 = (THREADS * TOKENS);
constant uint _504 = (_503 * 2u);
constant uint _520 = (THREADS / 2u);
constant uint _541 = (TOKENS * 2u);

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

constant uint _707 = (TOKENS * 2u);
constant bool _740 = (TOKENS >= 4u);
constant bool _742 = (_740 && true);
constant int _743 = _742 ? 2 : 4;
constant uint _744 = (uint(_743) + 0u);
constant bool _791 = (TOKENS >= 4u);
constant bool _792 = (_791 && true);
constant int _793 = _792 ? 2 : 4;
constant uint _794 = (uint(_793) + 0u);

struct X
{
    float4 x[1];
};

constant bool _927 = (TOKENS >= 4u);
constant bool _928 = (_927 && true);
constant int _929 = _928 ? 2 : 4;
constant uint _930 = (uint(_929) + 0u);
constant uint _931 = (_930 * THREADS);
constant uint _950 = (8u * TOKENS);

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1002 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1002, 1u, 1u);

kernel void expert_up_int4(constant Push& p [[buffer(0)]], const device Weights& _198 [[buffer(1)]], const device X& _867 [[buffer(2)]], device Y& _984 [[buffer(3)]], const device Route& _599 [[buffer(4)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_504];
    do
    {
        uint _594 = gl_WorkGroupID.z * TOKENS;
        if (gl_WorkGroupID.y >= _599.route[0])
        {
            break;
        }
        uint _608 = gl_WorkGroupID.y * 4u;
        uint _609 = 16u + _608;
        uint _616 = _608 + 17u;
        uint _618 = _599.route[_616];
        bool _621 = _594 >= _618;
        bool _636;
        if (!_621)
        {
            _636 = (_599.route[_609] - p.first_expert) >= p.experts;
        }
        else
        {
            _636 = _621;
        }
        if (_636)
        {
            break;
        }
        uint _656 = (p.first + ((_599.route[_609] - p.first_expert) * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
        uint _666 = (16u + (p.slots * 4u)) + (gl_WorkGroupID.y * 64u);
        uint x_at[8];
        for (uint _1574 = 0u; _1574 < TOKENS; )
        {
            x_at[_1574] = _599.route[_666 + min((_594 + _1574), (_618 - 1u))] * p.x_stride;
            _1574++;
            continue;
        }
        uint _699 = _618 - _594;
        float acc[16];
        for (uint _1575 = 0u; _1575 < _707; )
        {
            acc[_1575] = 0.0;
            _1575++;
            continue;
        }
        uint _1019 = ((p.cols + 31u) / 32u) * 8u;
        uint _1576;
        _1576 = gl_LocalInvocationID.x;
        uint4 raw[4][1];
        bool _730;
        for (;;)
        {
            _730 = _1576 < _1019;
            if (_730)
            {
                bool _745 = 0u < _744;
                bool _754;
                if (_745)
                {
                    _754 = _730;
                }
                else
                {
                    _754 = _745;
                }
                if (_754)
                {
                    uint4 _1564[1] = { _198.weights[_656 + _1576] };
                    spvArrayCopyFromStackToStack1(raw[0u], _1564);
                }
                bool _1650 = 1u < _744;
                bool _1656;
                if (_1650)
                {
                    _1656 = (_1576 + THREADS) < _1019;
                }
                else
                {
                    _1656 = _1650;
                }
                if (_1656)
                {
                    uint4 _1663[1] = { _198.weights[_656 + (_1576 + THREADS)] };
                    spvArrayCopyFromStackToStack1(raw[1u], _1663);
                }
                bool _1673 = 2u < _744;
                bool _1679;
                if (_1673)
                {
                    _1679 = (_1576 + (2u * THREADS)) < _1019;
                }
                else
                {
                    _1679 = _1673;
                }
                if (_1679)
                {
                    uint4 _1686[1] = { _198.weights[_656 + (_1576 + (2u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[2u], _1686);
                }
                bool _1696 = 3u < _744;
                bool _1702;
                if (_1696)
                {
                    _1702 = (_1576 + (3u * THREADS)) < _1019;
                }
                else
                {
                    _1702 = _1696;
                }
                if (_1702)
                {
                    uint4 _1709[1] = { _198.weights[_656 + (_1576 + (3u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[3u], _1709);
                }
                for (uint _1585 = 0u; _1585 < 4u; _1585++)
                {
                    uint _789 = _1576 + (_1585 * THREADS);
                    if ((_1585 >= _794) || (_789 >= _1019))
                    {
                        continue;
                    }
                    float _1109 = as_type<float>((raw[_1585][0].x & 15u) | 1258291200u) - 8388616.0;
                    float _1117 = as_type<float>(((raw[_1585][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1125 = as_type<float>(((raw[_1585][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1133 = as_type<float>(((raw[_1585][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1065 = raw[_1585][0].x >> uint(4);
                    float _1167 = as_type<float>((_1065 & 15u) | 1258291200u) - 8388616.0;
                    float _1175 = as_type<float>(((_1065 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1183 = as_type<float>(((_1065 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1191 = as_type<float>(((_1065 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1728 = as_type<float>((raw[_1585][0].y & 15u) | 1258291200u) - 8388616.0;
                    float _1733 = as_type<float>(((raw[_1585][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1738 = as_type<float>(((raw[_1585][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1743 = as_type<float>(((raw[_1585][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1753 = raw[_1585][0].y >> uint(4);
                    float _1757 = as_type<float>((_1753 & 15u) | 1258291200u) - 8388616.0;
                    float _1762 = as_type<float>(((_1753 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1767 = as_type<float>(((_1753 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1772 = as_type<float>(((_1753 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1795 = as_type<float>((raw[_1585][0].z & 15u) | 1258291200u) - 8388616.0;
                    float _1800 = as_type<float>(((raw[_1585][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1805 = as_type<float>(((raw[_1585][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1810 = as_type<float>(((raw[_1585][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1820 = raw[_1585][0].z >> uint(4);
                    float _1824 = as_type<float>((_1820 & 15u) | 1258291200u) - 8388616.0;
                    float _1829 = as_type<float>(((_1820 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1834 = as_type<float>(((_1820 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1839 = as_type<float>(((_1820 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1857 = as_type<float>((raw[_1585][0].w & 15u) | 1258291200u) - 8388616.0;
                    float _1862 = as_type<float>(((raw[_1585][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1867 = as_type<float>(((raw[_1585][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1872 = as_type<float>(((raw[_1585][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1882 = raw[_1585][0].w >> uint(4);
                    float _1886 = as_type<float>((_1882 & 15u) | 1258291200u) - 8388616.0;
                    float _1891 = as_type<float>(((_1882 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1896 = as_type<float>(((_1882 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1901 = as_type<float>(((_1882 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1200 = _789 >> uint(3);
                    uint _1201 = (_656 + _1019) + _1200;
                    uint _1203 = _789 & 3u;
                    uint _1207 = ((device uint*)&_198.weights[_1201])[_1203] & 65535u;
                    uint _1222 = _1207 & 32767u;
                    uint _1224 = _1222 << uint(13);
                    float _1239 = (_1222 < 1024u) ? (as_type<float>(947912704u | _1224) - 6.103515625e-05) : as_type<float>(_1224 + ((_1222 < 31744u) ? 939524096u : 1879048192u));
                    float _1589;
                    if ((_1207 & 32768u) != 0u)
                    {
                        _1589 = -_1239;
                    }
                    else
                    {
                        _1589 = _1239;
                    }
                    uint _1211 = ((device uint*)&_198.weights[_1201])[_1203] >> uint(16);
                    uint _1258 = _1211 & 32767u;
                    uint _1260 = _1258 << uint(13);
                    float _1275 = (_1258 < 1024u) ? (as_type<float>(947912704u | _1260) - 6.103515625e-05) : as_type<float>(_1260 + ((_1258 < 31744u) ? 939524096u : 1879048192u));
                    float _1590;
                    if ((_1211 & 32768u) != 0u)
                    {
                        _1590 = -_1275;
                    }
                    else
                    {
                        _1590 = _1275;
                    }
                    for (uint _1591 = 0u; _1591 < TOKENS; _1591 += 4u)
                    {
                        if ((_1591 != 0u) && (_1591 >= _699))
                        {
                            continue;
                        }
                        for (uint _1592 = _1591; _1592 < (_1591 + 4u); _1592++)
                        {
                            if (_1592 >= TOKENS)
                            {
                                continue;
                            }
                            uint _1295 = (_1200 * 8u) + (((_789 >> uint(2)) & 1u) * 2u);
                            uint _876 = x_at[_1592] + _1295;
                            uint _1927 = x_at[_1592] + (_1295 + 1u);
                            uint _1951 = x_at[_1592] + (_1295 + 4u);
                            uint _1975 = x_at[_1592] + (_1295 + 5u);
                            uint _907 = _1592 * 2u;
                            acc[_907] = fma(_1589, fma(_1772, _867.x[_1975].w, fma(_1767, _867.x[_1975].z, fma(_1762, _867.x[_1975].y, fma(_1757, _867.x[_1975].x, fma(_1191, _867.x[_1951].w, fma(_1183, _867.x[_1951].z, fma(_1175, _867.x[_1951].y, fma(_1167, _867.x[_1951].x, fma(_1743, _867.x[_1927].w, fma(_1738, _867.x[_1927].z, fma(_1733, _867.x[_1927].y, fma(_1728, _867.x[_1927].x, fma(_1133, _867.x[_876].w, fma(_1125, _867.x[_876].z, fma(_1117, _867.x[_876].y, spvFMul(_1109, _867.x[_876].x)))))))))))))))), acc[_907]);
                            uint _2198 = _907 + 1u;
                            acc[_2198] = fma(_1590, fma(_1901, _867.x[_1975].w, fma(_1896, _867.x[_1975].z, fma(_1891, _867.x[_1975].y, fma(_1886, _867.x[_1975].x, fma(_1839, _867.x[_1951].w, fma(_1834, _867.x[_1951].z, fma(_1829, _867.x[_1951].y, fma(_1824, _867.x[_1951].x, fma(_1872, _867.x[_1927].w, fma(_1867, _867.x[_1927].z, fma(_1862, _867.x[_1927].y, fma(_1857, _867.x[_1927].x, fma(_1810, _867.x[_876].w, fma(_1805, _867.x[_876].z, fma(_1800, _867.x[_876].y, _1795 * _867.x[_876].x))))))))))))))), acc[_2198]);
                        }
                    }
                }
                _1576 += _931;
                continue;
            }
            else
            {
                break;
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1577 = 0u; _1577 < _500; )
        {
            partial[(_1577 * THREADS) + gl_LocalInvocationID.x] = param[_1577];
            _1577++;
            continue;
        }
        uint _1578;
        _1578 = _520;
        for (; _1578 >= 4u; _1578 /= 2u)
        {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (gl_LocalInvocationID.x < _1578)
            {
                for (uint _1581 = 0u; _1581 < _541; )
                {
                    uint _1445 = (_1581 * THREADS) + gl_LocalInvocationID.x;
                    partial[_1445] = spvFAdd(partial[_1445], partial[_1445 + _1578]);
                    _1581++;
                    continue;
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _943 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _948 = _594 + (gl_LocalInvocationID.x / 8u);
        bool _951 = gl_LocalInvocationID.x >= _950;
        bool _960;
        if (!_951)
        {
            _960 = _943 >= p.rows;
        }
        else
        {
            _960 = _951;
        }
        if (_960 || (_948 >= _618))
        {
            break;
        }
        uint _972 = gl_LocalInvocationID.x % 8u;
        uint _1483 = ((((gl_LocalInvocationID.x / 8u) * 2u) + (_972 % 2u)) * THREADS) + (_972 / 2u);
        float _1494 = -abs(partial[_1483]);
        float _1579;
        do
        {
            if (_1494 < (-87.0))
            {
                _1579 = 0.0;
                break;
            }
            float _1523 = floor(fma(_1494, 1.44269502162933349609375, 0.5));
            float _1529 = fma(_1523, 0.00021219444170128554105758666992188, fma(_1523, -0.693359375, _1494));
            _1579 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _1529, 0.00139819993637502193450927734375), _1529, 0.008333452045917510986328125), _1529, 0.0416657961905002593994140625), _1529, 0.1666666567325592041015625), _1529, 0.5), _1529), _1529, _1529), 1.0) * as_type<float>(uint(int(_1523) + 127) << uint(23));
            break;
        } while(false);
        float _1580;
        if (partial[_1483] < 0.0)
        {
            _1580 = partial[_1483] * _1579;
        }
        else
        {
            _1580 = partial[_1483];
        }
        _984.y[(((gl_WorkGroupID.y * p.max_tokens) + _948) * p.y_stride) + _943] = _1580 / (1.0 + _1579);
        break;
    } while(false);
}


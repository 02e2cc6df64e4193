// Written by build_shaders.py from shaders/linear.comp; do not edit. Compile without fast math.
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
constant uint _430 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _433 = (THREADS * TOKENS);
constant uint _434 = (_433 * 2u);
constant uint _459 = (64u * TOKENS);
constant uint _494 = (64u * TOKENS);
constant bool _550 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint tiles_per_group;
    uint row_offset;
    uint rows;
    uint cols;
    uint x_stride;
    uint x_group;
    uint y_stride;
    uint y_group;
    uint bias_at;
    uint flags;
    float scale;
    uint residual_stride;
};

constant uint _618 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _718 = (TOKENS * 2u);
constant bool _750 = (TOKENS >= 4u);
constant bool _751 = (_750 && true);
constant int _752 = _751 ? 2 : 4;
constant uint _753 = (uint(_752) + 0u);
constant bool _809 = (TOKENS >= 4u);
constant bool _810 = (_809 && true);
constant int _811 = _810 ? 2 : 4;
constant uint _812 = (uint(_811) + 0u);

struct X
{
    float4 x[1];
};

constant bool _967 = (TOKENS >= 4u);
constant bool _968 = (_967 && true);
constant int _969 = _968 ? 2 : 4;
constant uint _970 = (uint(_969) + 0u);
constant uint _971 = (_970 * THREADS);

struct Bias
{
    float bias0[1];
};

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1048 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1048, 1u, 1u);

kernel void linear_int4(constant Push& p [[buffer(0)]], const device Weights& _116 [[buffer(1)]], const device X& _884 [[buffer(2)]], device Y& _643 [[buffer(3)]], const device Bias& _1001 [[buffer(4)]], const device Step& _558 [[buffer(5)]], const device Residual& _1025 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_434];
    threadgroup float chunk_sums[_494];
    do
    {
        uint _548 = gl_WorkGroupID.z * TOKENS;
        uint _1569;
        if (_550)
        {
            _1569 = 1u;
        }
        else
        {
            _1569 = _558.step_[0];
        }
        uint _1570;
        if ((p.flags & 2u) != 0u)
        {
            _1570 = _558.step_[2];
        }
        else
        {
            _1570 = 0u;
        }
        if (_548 >= _1569)
        {
            break;
        }
        uint _596 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _601 = _548 + (gl_LocalInvocationID.x / 8u);
        uint _611 = gl_WorkGroupID.y * p.y_group;
        uint _614 = ((_601 * p.y_stride) + _611) + _596;
        bool _619 = gl_LocalInvocationID.x < _618;
        bool _626;
        if (_619)
        {
            _626 = _596 < p.rows;
        }
        else
        {
            _626 = _619;
        }
        bool _629 = _601 < _1569;
        bool _630 = _626 && _629;
        if ((_548 + TOKENS) <= _1570)
        {
            if (_630)
            {
                _643.y[_614] = 0.0;
            }
            break;
        }
        uint _662 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1571 = 0u; _1571 < TOKENS; )
        {
            x_at[_1571] = ((_548 + _1571) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1571++;
            continue;
        }
        uint _694 = _1569 - _548;
        float acc[16];
        for (uint _1572 = 0u; _1572 < _718; )
        {
            acc[_1572] = 0.0;
            _1572++;
            continue;
        }
        uint _1061 = ((p.cols + 31u) / 32u) * 8u;
        uint _1573;
        _1573 = gl_LocalInvocationID.x;
        uint4 raw[4][1];
        uint pair[4];
        bool _740;
        for (;;)
        {
            _740 = _1573 < _1061;
            if (_740)
            {
                bool _754 = 0u < _753;
                bool _763;
                if (_754)
                {
                    _763 = _740;
                }
                else
                {
                    _763 = _754;
                }
                if (_763)
                {
                    uint4 _1559[1] = { _116.weights[_662 + _1573] };
                    spvArrayCopyFromStackToStack1(raw[0u], _1559);
                    pair[0u] = ((device uint*)&_116.weights[(_662 + _1061) + (_1573 >> uint(3))])[_1573 & 3u];
                }
                bool _1727 = 1u < _753;
                bool _1733;
                if (_1727)
                {
                    _1733 = (_1573 + THREADS) < _1061;
                }
                else
                {
                    _1733 = _1727;
                }
                if (_1733)
                {
                    uint _1736 = _1573 + THREADS;
                    uint4 _1746[1] = { _116.weights[_662 + _1736] };
                    spvArrayCopyFromStackToStack1(raw[1u], _1746);
                    pair[1u] = ((device uint*)&_116.weights[(_662 + _1061) + (_1736 >> uint(3))])[_1736 & 3u];
                }
                bool _1757 = 2u < _753;
                bool _1763;
                if (_1757)
                {
                    _1763 = (_1573 + (2u * THREADS)) < _1061;
                }
                else
                {
                    _1763 = _1757;
                }
                if (_1763)
                {
                    uint _1766 = _1573 + (2u * THREADS);
                    uint4 _1776[1] = { _116.weights[_662 + _1766] };
                    spvArrayCopyFromStackToStack1(raw[2u], _1776);
                    pair[2u] = ((device uint*)&_116.weights[(_662 + _1061) + (_1766 >> uint(3))])[_1766 & 3u];
                }
                bool _1787 = 3u < _753;
                bool _1793;
                if (_1787)
                {
                    _1793 = (_1573 + (3u * THREADS)) < _1061;
                }
                else
                {
                    _1793 = _1787;
                }
                if (_1793)
                {
                    uint _1796 = _1573 + (3u * THREADS);
                    uint4 _1806[1] = { _116.weights[_662 + _1796] };
                    spvArrayCopyFromStackToStack1(raw[3u], _1806);
                    pair[3u] = ((device uint*)&_116.weights[(_662 + _1061) + (_1796 >> uint(3))])[_1796 & 3u];
                }
                for (uint _1584 = 0u; _1584 < 4u; _1584++)
                {
                    uint _807 = _1573 + (_1584 * THREADS);
                    if ((_1584 >= _812) || (_807 >= _1061))
                    {
                        continue;
                    }
                    float _1161 = as_type<float>((raw[_1584][0].x & 15u) | 1258291200u) - 8388616.0;
                    float _1169 = as_type<float>(((raw[_1584][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1177 = as_type<float>(((raw[_1584][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1185 = as_type<float>(((raw[_1584][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1117 = raw[_1584][0].x >> uint(4);
                    float _1219 = as_type<float>((_1117 & 15u) | 1258291200u) - 8388616.0;
                    float _1227 = as_type<float>(((_1117 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1235 = as_type<float>(((_1117 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1243 = as_type<float>(((_1117 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1826 = as_type<float>((raw[_1584][0].y & 15u) | 1258291200u) - 8388616.0;
                    float _1831 = as_type<float>(((raw[_1584][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1836 = as_type<float>(((raw[_1584][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1841 = as_type<float>(((raw[_1584][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1851 = raw[_1584][0].y >> uint(4);
                    float _1855 = as_type<float>((_1851 & 15u) | 1258291200u) - 8388616.0;
                    float _1860 = as_type<float>(((_1851 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1865 = as_type<float>(((_1851 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1870 = as_type<float>(((_1851 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1893 = as_type<float>((raw[_1584][0].z & 15u) | 1258291200u) - 8388616.0;
                    float _1898 = as_type<float>(((raw[_1584][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1903 = as_type<float>(((raw[_1584][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1908 = as_type<float>(((raw[_1584][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1918 = raw[_1584][0].z >> uint(4);
                    float _1922 = as_type<float>((_1918 & 15u) | 1258291200u) - 8388616.0;
                    float _1927 = as_type<float>(((_1918 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1932 = as_type<float>(((_1918 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1937 = as_type<float>(((_1918 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1955 = as_type<float>((raw[_1584][0].w & 15u) | 1258291200u) - 8388616.0;
                    float _1960 = as_type<float>(((raw[_1584][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1965 = as_type<float>(((raw[_1584][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1970 = as_type<float>(((raw[_1584][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1980 = raw[_1584][0].w >> uint(4);
                    float _1984 = as_type<float>((_1980 & 15u) | 1258291200u) - 8388616.0;
                    float _1989 = as_type<float>(((_1980 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1994 = as_type<float>(((_1980 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1999 = as_type<float>(((_1980 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1248 = pair[_1584] & 65535u;
                    uint _1263 = _1248 & 32767u;
                    uint _1265 = _1263 << uint(13);
                    float _1280 = (_1263 < 1024u) ? (as_type<float>(947912704u | _1265) - 6.103515625e-05) : as_type<float>(_1265 + ((_1263 < 31744u) ? 939524096u : 1879048192u));
                    float _1589;
                    if ((_1248 & 32768u) != 0u)
                    {
                        _1589 = -_1280;
                    }
                    else
                    {
                        _1589 = _1280;
                    }
                    uint _1252 = pair[_1584] >> uint(16);
                    uint _1299 = _1252 & 32767u;
                    uint _1301 = _1299 << uint(13);
                    float _1316 = (_1299 < 1024u) ? (as_type<float>(947912704u | _1301) - 6.103515625e-05) : as_type<float>(_1301 + ((_1299 < 31744u) ? 939524096u : 1879048192u));
                    float _1590;
                    if ((_1252 & 32768u) != 0u)
                    {
                        _1590 = -_1316;
                    }
                    else
                    {
                        _1590 = _1316;
                    }
                    for (uint _1591 = 0u; _1591 < TOKENS; _1591 += 4u)
                    {
                        if ((_1591 != 0u) && (_1591 >= _694))
                        {
                            continue;
                        }
                        for (uint _1592 = _1591; _1592 < (_1591 + 4u); _1592++)
                        {
                            if (_1592 >= TOKENS)
                            {
                                continue;
                            }
                            uint _1336 = ((_807 >> uint(3)) * 8u) + (((_807 >> uint(2)) & 1u) * 2u);
                            uint _893 = x_at[_1592] + _1336;
                            uint _2025 = x_at[_1592] + (_1336 + 1u);
                            uint _2049 = x_at[_1592] + (_1336 + 4u);
                            uint _2073 = x_at[_1592] + (_1336 + 5u);
                            uint _935 = _1592 * 2u;
                            acc[_935] = fma(_1589, fma(_1870, _884.x[_2073].w, fma(_1865, _884.x[_2073].z, fma(_1860, _884.x[_2073].y, fma(_1855, _884.x[_2073].x, fma(_1243, _884.x[_2049].w, fma(_1235, _884.x[_2049].z, fma(_1227, _884.x[_2049].y, fma(_1219, _884.x[_2049].x, fma(_1841, _884.x[_2025].w, fma(_1836, _884.x[_2025].z, fma(_1831, _884.x[_2025].y, fma(_1826, _884.x[_2025].x, fma(_1185, _884.x[_893].w, fma(_1177, _884.x[_893].z, fma(_1169, _884.x[_893].y, spvFMul(_1161, _884.x[_893].x)))))))))))))))), acc[_935]);
                            uint _2296 = _935 + 1u;
                            acc[_2296] = fma(_1590, fma(_1999, _884.x[_2073].w, fma(_1994, _884.x[_2073].z, fma(_1989, _884.x[_2073].y, fma(_1984, _884.x[_2073].x, fma(_1937, _884.x[_2049].w, fma(_1932, _884.x[_2049].z, fma(_1927, _884.x[_2049].y, fma(_1922, _884.x[_2049].x, fma(_1970, _884.x[_2025].w, fma(_1965, _884.x[_2025].z, fma(_1960, _884.x[_2025].y, fma(_1955, _884.x[_2025].x, fma(_1908, _884.x[_893].w, fma(_1903, _884.x[_893].z, fma(_1898, _884.x[_893].y, _1893 * _884.x[_893].x))))))))))))))), acc[_2296]);
                        }
                    }
                }
                _1573 += _971;
                continue;
            }
            else
            {
                break;
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1574 = 0u; _1574 < _430; )
        {
            partial[(_1574 * THREADS) + gl_LocalInvocationID.x] = param[_1574];
            _1574++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1575 = gl_LocalInvocationID.x; _1575 < _459; _1575 += THREADS)
        {
            uint _1495 = (((_1575 / 32u) * THREADS) + ((_1575 / 8u) % 4u)) + (4u * (_1575 % 8u));
            float _1582;
            _1582 = partial[_1495];
            for (uint _1580 = 32u; _1580 < THREADS; )
            {
                _1582 = spvFAdd(_1582, partial[_1495 + _1580]);
                _1580 += 32u;
                continue;
            }
            chunk_sums[_1575] = _1582;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_630)
        {
            break;
        }
        uint _986 = gl_LocalInvocationID.x % 8u;
        uint _1536 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_986 % 2u)) * 4u) + (_986 / 2u)) * 8u;
        float _991 = spvFMul((((((spvFAdd(chunk_sums[_1536], chunk_sums[_1536 + 1u]) + chunk_sums[_1536 + 2u]) + chunk_sums[_1536 + 3u]) + chunk_sums[_1536 + 4u]) + chunk_sums[_1536 + 5u]) + chunk_sums[_1536 + 6u]) + chunk_sums[_1536 + 7u], spvFMul(p.scale, 1.0));
        float _1578;
        if ((p.flags & 1u) != 0u)
        {
            _1578 = spvFAdd(_991, _1001.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _596]);
        }
        else
        {
            _1578 = _991;
        }
        float _1579;
        if ((p.flags & 4u) != 0u)
        {
            _1579 = spvFAdd(_1578, _1025.residual[((_601 * p.residual_stride) + _611) + _596]);
        }
        else
        {
            _1579 = _1578;
        }
        _643.y[_614] = (_601 < _1570) ? 0.0 : _1579;
        break;
    } while(false);
}


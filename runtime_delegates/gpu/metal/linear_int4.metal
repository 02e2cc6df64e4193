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
constant uint _414 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _417 = (THREADS * TOKENS);
constant uint _418 = (_417 * 2u);
constant uint _443 = (64u * TOKENS);
constant uint _478 = (64u * TOKENS);
constant bool _534 = (TOKENS == 1u);

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

constant uint _602 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _702 = (TOKENS * 2u);
constant bool _734 = (TOKENS >= 4u);
constant bool _736 = (_734 && true);
constant int _737 = _736 ? 2 : 4;
constant uint _738 = (uint(_737) + 0u);
constant bool _794 = (TOKENS >= 4u);
constant bool _795 = (_794 && true);
constant int _796 = _795 ? 2 : 4;
constant uint _797 = (uint(_796) + 0u);

struct X
{
    float4 x[1];
};

constant bool _928 = (TOKENS >= 4u);
constant bool _929 = (_928 && true);
constant int _930 = _929 ? 2 : 4;
constant uint _931 = (uint(_930) + 0u);
constant uint _932 = (_931 * THREADS);

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
constant uint _1009 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1009, 1u, 1u);

kernel void linear_int4(constant Push& p [[buffer(0)]], const device Weights& _109 [[buffer(1)]], const device X& _868 [[buffer(2)]], device Y& _627 [[buffer(3)]], const device Bias& _962 [[buffer(4)]], const device Step& _542 [[buffer(5)]], const device Residual& _986 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_418];
    threadgroup float chunk_sums[_478];
    do
    {
        uint _532 = gl_WorkGroupID.z * TOKENS;
        uint _1521;
        if (_534)
        {
            _1521 = 1u;
        }
        else
        {
            _1521 = _542.step_[0];
        }
        uint _1522;
        if ((p.flags & 2u) != 0u)
        {
            _1522 = _542.step_[2];
        }
        else
        {
            _1522 = 0u;
        }
        if (_532 >= _1521)
        {
            break;
        }
        uint _580 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _585 = _532 + (gl_LocalInvocationID.x / 8u);
        uint _595 = gl_WorkGroupID.y * p.y_group;
        uint _598 = ((_585 * p.y_stride) + _595) + _580;
        bool _603 = gl_LocalInvocationID.x < _602;
        bool _610;
        if (_603)
        {
            _610 = _580 < p.rows;
        }
        else
        {
            _610 = _603;
        }
        bool _613 = _585 < _1521;
        bool _614 = _610 && _613;
        if ((_532 + TOKENS) <= _1522)
        {
            if (_614)
            {
                _627.y[_598] = 0.0;
            }
            break;
        }
        uint _646 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1523 = 0u; _1523 < TOKENS; )
        {
            x_at[_1523] = ((_532 + _1523) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1523++;
            continue;
        }
        uint _678 = _1521 - _532;
        float acc[16];
        for (uint _1524 = 0u; _1524 < _702; )
        {
            acc[_1524] = 0.0;
            _1524++;
            continue;
        }
        uint _1022 = ((p.cols + 31u) / 32u) * 8u;
        uint _1525;
        _1525 = gl_LocalInvocationID.x;
        uint4 raw[4][1];
        uint pair[4];
        bool _724;
        for (;;)
        {
            _724 = _1525 < _1022;
            if (_724)
            {
                bool _739 = 0u < _738;
                bool _748;
                if (_739)
                {
                    _748 = _724;
                }
                else
                {
                    _748 = _739;
                }
                if (_748)
                {
                    uint4 _1511[1] = { _109.weights[_646 + _1525] };
                    spvArrayCopyFromStackToStack1(raw[0u], _1511);
                    pair[0u] = ((device uint*)&_109.weights[(_646 + _1022) + (_1525 >> uint(3))])[_1525 & 3u];
                }
                bool _1673 = 1u < _738;
                bool _1679;
                if (_1673)
                {
                    _1679 = (_1525 + THREADS) < _1022;
                }
                else
                {
                    _1679 = _1673;
                }
                if (_1679)
                {
                    uint _1682 = _1525 + THREADS;
                    uint4 _1692[1] = { _109.weights[_646 + _1682] };
                    spvArrayCopyFromStackToStack1(raw[1u], _1692);
                    pair[1u] = ((device uint*)&_109.weights[(_646 + _1022) + (_1682 >> uint(3))])[_1682 & 3u];
                }
                bool _1703 = 2u < _738;
                bool _1709;
                if (_1703)
                {
                    _1709 = (_1525 + (2u * THREADS)) < _1022;
                }
                else
                {
                    _1709 = _1703;
                }
                if (_1709)
                {
                    uint _1712 = _1525 + (2u * THREADS);
                    uint4 _1722[1] = { _109.weights[_646 + _1712] };
                    spvArrayCopyFromStackToStack1(raw[2u], _1722);
                    pair[2u] = ((device uint*)&_109.weights[(_646 + _1022) + (_1712 >> uint(3))])[_1712 & 3u];
                }
                bool _1733 = 3u < _738;
                bool _1739;
                if (_1733)
                {
                    _1739 = (_1525 + (3u * THREADS)) < _1022;
                }
                else
                {
                    _1739 = _1733;
                }
                if (_1739)
                {
                    uint _1742 = _1525 + (3u * THREADS);
                    uint4 _1752[1] = { _109.weights[_646 + _1742] };
                    spvArrayCopyFromStackToStack1(raw[3u], _1752);
                    pair[3u] = ((device uint*)&_109.weights[(_646 + _1022) + (_1742 >> uint(3))])[_1742 & 3u];
                }
                for (uint _1536 = 0u; _1536 < 4u; _1536++)
                {
                    uint _792 = _1525 + (_1536 * THREADS);
                    if ((_1536 >= _797) || (_792 >= _1022))
                    {
                        continue;
                    }
                    float _1122 = as_type<float>((raw[_1536][0].x & 15u) | 1258291200u) - 8388616.0;
                    float _1130 = as_type<float>(((raw[_1536][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1138 = as_type<float>(((raw[_1536][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1146 = as_type<float>(((raw[_1536][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1078 = raw[_1536][0].x >> uint(4);
                    float _1180 = as_type<float>((_1078 & 15u) | 1258291200u) - 8388616.0;
                    float _1188 = as_type<float>(((_1078 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1196 = as_type<float>(((_1078 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1204 = as_type<float>(((_1078 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1772 = as_type<float>((raw[_1536][0].y & 15u) | 1258291200u) - 8388616.0;
                    float _1777 = as_type<float>(((raw[_1536][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1782 = as_type<float>(((raw[_1536][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1787 = as_type<float>(((raw[_1536][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1797 = raw[_1536][0].y >> uint(4);
                    float _1801 = as_type<float>((_1797 & 15u) | 1258291200u) - 8388616.0;
                    float _1806 = as_type<float>(((_1797 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1811 = as_type<float>(((_1797 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1816 = as_type<float>(((_1797 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1839 = as_type<float>((raw[_1536][0].z & 15u) | 1258291200u) - 8388616.0;
                    float _1844 = as_type<float>(((raw[_1536][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1849 = as_type<float>(((raw[_1536][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1854 = as_type<float>(((raw[_1536][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1864 = raw[_1536][0].z >> uint(4);
                    float _1868 = as_type<float>((_1864 & 15u) | 1258291200u) - 8388616.0;
                    float _1873 = as_type<float>(((_1864 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1878 = as_type<float>(((_1864 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1883 = as_type<float>(((_1864 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1901 = as_type<float>((raw[_1536][0].w & 15u) | 1258291200u) - 8388616.0;
                    float _1906 = as_type<float>(((raw[_1536][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1911 = as_type<float>(((raw[_1536][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1916 = as_type<float>(((raw[_1536][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1926 = raw[_1536][0].w >> uint(4);
                    float _1930 = as_type<float>((_1926 & 15u) | 1258291200u) - 8388616.0;
                    float _1935 = as_type<float>(((_1926 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1940 = as_type<float>(((_1926 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1945 = as_type<float>(((_1926 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1209 = pair[_1536] & 65535u;
                    uint _1224 = _1209 & 32767u;
                    uint _1226 = _1224 << uint(13);
                    float _1241 = (_1224 < 1024u) ? (as_type<float>(947912704u | _1226) - 6.103515625e-05) : as_type<float>(_1226 + ((_1224 < 31744u) ? 939524096u : 1879048192u));
                    float _1541;
                    if ((_1209 & 32768u) != 0u)
                    {
                        _1541 = -_1241;
                    }
                    else
                    {
                        _1541 = _1241;
                    }
                    uint _1213 = pair[_1536] >> uint(16);
                    uint _1260 = _1213 & 32767u;
                    uint _1262 = _1260 << uint(13);
                    float _1277 = (_1260 < 1024u) ? (as_type<float>(947912704u | _1262) - 6.103515625e-05) : as_type<float>(_1262 + ((_1260 < 31744u) ? 939524096u : 1879048192u));
                    float _1542;
                    if ((_1213 & 32768u) != 0u)
                    {
                        _1542 = -_1277;
                    }
                    else
                    {
                        _1542 = _1277;
                    }
                    for (uint _1543 = 0u; _1543 < TOKENS; _1543 += 4u)
                    {
                        if ((_1543 != 0u) && (_1543 >= _678))
                        {
                            continue;
                        }
                        for (uint _1544 = _1543; _1544 < (_1543 + 4u); _1544++)
                        {
                            if (_1544 >= TOKENS)
                            {
                                continue;
                            }
                            uint _1297 = ((_792 >> uint(3)) * 8u) + (((_792 >> uint(2)) & 1u) * 2u);
                            uint _877 = x_at[_1544] + _1297;
                            uint _1971 = x_at[_1544] + (_1297 + 1u);
                            uint _1995 = x_at[_1544] + (_1297 + 4u);
                            uint _2019 = x_at[_1544] + (_1297 + 5u);
                            uint _908 = _1544 * 2u;
                            acc[_908] = fma(_1541, fma(_1816, _868.x[_2019].w, fma(_1811, _868.x[_2019].z, fma(_1806, _868.x[_2019].y, fma(_1801, _868.x[_2019].x, fma(_1204, _868.x[_1995].w, fma(_1196, _868.x[_1995].z, fma(_1188, _868.x[_1995].y, fma(_1180, _868.x[_1995].x, fma(_1787, _868.x[_1971].w, fma(_1782, _868.x[_1971].z, fma(_1777, _868.x[_1971].y, fma(_1772, _868.x[_1971].x, fma(_1146, _868.x[_877].w, fma(_1138, _868.x[_877].z, fma(_1130, _868.x[_877].y, spvFMul(_1122, _868.x[_877].x)))))))))))))))), acc[_908]);
                            uint _2242 = _908 + 1u;
                            acc[_2242] = fma(_1542, fma(_1945, _868.x[_2019].w, fma(_1940, _868.x[_2019].z, fma(_1935, _868.x[_2019].y, fma(_1930, _868.x[_2019].x, fma(_1883, _868.x[_1995].w, fma(_1878, _868.x[_1995].z, fma(_1873, _868.x[_1995].y, fma(_1868, _868.x[_1995].x, fma(_1916, _868.x[_1971].w, fma(_1911, _868.x[_1971].z, fma(_1906, _868.x[_1971].y, fma(_1901, _868.x[_1971].x, fma(_1854, _868.x[_877].w, fma(_1849, _868.x[_877].z, fma(_1844, _868.x[_877].y, _1839 * _868.x[_877].x))))))))))))))), acc[_2242]);
                        }
                    }
                }
                _1525 += _932;
                continue;
            }
            else
            {
                break;
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1526 = 0u; _1526 < _414; )
        {
            partial[(_1526 * THREADS) + gl_LocalInvocationID.x] = param[_1526];
            _1526++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1527 = gl_LocalInvocationID.x; _1527 < _443; _1527 += THREADS)
        {
            uint _1447 = (((_1527 / 32u) * THREADS) + ((_1527 / 8u) % 4u)) + (4u * (_1527 % 8u));
            float _1534;
            _1534 = partial[_1447];
            for (uint _1532 = 32u; _1532 < THREADS; )
            {
                _1534 = spvFAdd(_1534, partial[_1447 + _1532]);
                _1532 += 32u;
                continue;
            }
            chunk_sums[_1527] = _1534;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_614)
        {
            break;
        }
        uint _947 = gl_LocalInvocationID.x % 8u;
        uint _1488 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_947 % 2u)) * 4u) + (_947 / 2u)) * 8u;
        float _952 = spvFMul((((((spvFAdd(chunk_sums[_1488], chunk_sums[_1488 + 1u]) + chunk_sums[_1488 + 2u]) + chunk_sums[_1488 + 3u]) + chunk_sums[_1488 + 4u]) + chunk_sums[_1488 + 5u]) + chunk_sums[_1488 + 6u]) + chunk_sums[_1488 + 7u], spvFMul(p.scale, 1.0));
        float _1530;
        if ((p.flags & 1u) != 0u)
        {
            _1530 = spvFAdd(_952, _962.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _580]);
        }
        else
        {
            _1530 = _952;
        }
        float _1531;
        if ((p.flags & 4u) != 0u)
        {
            _1531 = spvFAdd(_1530, _986.residual[((_585 * p.residual_stride) + _595) + _580]);
        }
        else
        {
            _1531 = _1530;
        }
        _627.y[_598] = (_585 < _1522) ? 0.0 : _1531;
        break;
    } while(false);
}


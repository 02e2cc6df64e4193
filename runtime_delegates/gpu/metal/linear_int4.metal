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

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _984 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_984, 1u, 1u);

kernel void linear_int4(constant Push& p [[buffer(0)]], const device Weights& _109 [[buffer(1)]], const device X& _868 [[buffer(2)]], device Y& _627 [[buffer(3)]], const device Bias& _962 [[buffer(4)]], const device Step& _542 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_418];
    threadgroup float chunk_sums[_478];
    do
    {
        uint _532 = gl_WorkGroupID.z * TOKENS;
        uint _1496;
        if (_534)
        {
            _1496 = 1u;
        }
        else
        {
            _1496 = _542.step_[0];
        }
        uint _1497;
        if ((p.flags & 2u) != 0u)
        {
            _1497 = _542.step_[2];
        }
        else
        {
            _1497 = 0u;
        }
        if (_532 >= _1496)
        {
            break;
        }
        uint _580 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _585 = _532 + (gl_LocalInvocationID.x / 8u);
        uint _598 = ((_585 * p.y_stride) + (gl_WorkGroupID.y * p.y_group)) + _580;
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
        bool _613 = _585 < _1496;
        bool _614 = _610 && _613;
        if ((_532 + TOKENS) <= _1497)
        {
            if (_614)
            {
                _627.y[_598] = 0.0;
            }
            break;
        }
        uint _646 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1498 = 0u; _1498 < TOKENS; )
        {
            x_at[_1498] = ((_532 + _1498) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1498++;
            continue;
        }
        uint _678 = _1496 - _532;
        float acc[16];
        for (uint _1499 = 0u; _1499 < _702; )
        {
            acc[_1499] = 0.0;
            _1499++;
            continue;
        }
        uint _997 = ((p.cols + 31u) / 32u) * 8u;
        uint _1500;
        _1500 = gl_LocalInvocationID.x;
        uint4 raw[4][1];
        uint pair[4];
        bool _724;
        for (;;)
        {
            _724 = _1500 < _997;
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
                    uint4 _1486[1] = { _109.weights[_646 + _1500] };
                    spvArrayCopyFromStackToStack1(raw[0u], _1486);
                    pair[0u] = ((device uint*)&_109.weights[(_646 + _997) + (_1500 >> uint(3))])[_1500 & 3u];
                }
                bool _1647 = 1u < _738;
                bool _1653;
                if (_1647)
                {
                    _1653 = (_1500 + THREADS) < _997;
                }
                else
                {
                    _1653 = _1647;
                }
                if (_1653)
                {
                    uint _1656 = _1500 + THREADS;
                    uint4 _1666[1] = { _109.weights[_646 + _1656] };
                    spvArrayCopyFromStackToStack1(raw[1u], _1666);
                    pair[1u] = ((device uint*)&_109.weights[(_646 + _997) + (_1656 >> uint(3))])[_1656 & 3u];
                }
                bool _1677 = 2u < _738;
                bool _1683;
                if (_1677)
                {
                    _1683 = (_1500 + (2u * THREADS)) < _997;
                }
                else
                {
                    _1683 = _1677;
                }
                if (_1683)
                {
                    uint _1686 = _1500 + (2u * THREADS);
                    uint4 _1696[1] = { _109.weights[_646 + _1686] };
                    spvArrayCopyFromStackToStack1(raw[2u], _1696);
                    pair[2u] = ((device uint*)&_109.weights[(_646 + _997) + (_1686 >> uint(3))])[_1686 & 3u];
                }
                bool _1707 = 3u < _738;
                bool _1713;
                if (_1707)
                {
                    _1713 = (_1500 + (3u * THREADS)) < _997;
                }
                else
                {
                    _1713 = _1707;
                }
                if (_1713)
                {
                    uint _1716 = _1500 + (3u * THREADS);
                    uint4 _1726[1] = { _109.weights[_646 + _1716] };
                    spvArrayCopyFromStackToStack1(raw[3u], _1726);
                    pair[3u] = ((device uint*)&_109.weights[(_646 + _997) + (_1716 >> uint(3))])[_1716 & 3u];
                }
                for (uint _1510 = 0u; _1510 < 4u; _1510++)
                {
                    uint _792 = _1500 + (_1510 * THREADS);
                    if ((_1510 >= _797) || (_792 >= _997))
                    {
                        continue;
                    }
                    float _1097 = as_type<float>((raw[_1510][0].x & 15u) | 1258291200u) - 8388616.0;
                    float _1105 = as_type<float>(((raw[_1510][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1113 = as_type<float>(((raw[_1510][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1121 = as_type<float>(((raw[_1510][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1053 = raw[_1510][0].x >> uint(4);
                    float _1155 = as_type<float>((_1053 & 15u) | 1258291200u) - 8388616.0;
                    float _1163 = as_type<float>(((_1053 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1171 = as_type<float>(((_1053 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1179 = as_type<float>(((_1053 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1746 = as_type<float>((raw[_1510][0].y & 15u) | 1258291200u) - 8388616.0;
                    float _1751 = as_type<float>(((raw[_1510][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1756 = as_type<float>(((raw[_1510][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1761 = as_type<float>(((raw[_1510][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1771 = raw[_1510][0].y >> uint(4);
                    float _1775 = as_type<float>((_1771 & 15u) | 1258291200u) - 8388616.0;
                    float _1780 = as_type<float>(((_1771 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1785 = as_type<float>(((_1771 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1790 = as_type<float>(((_1771 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1813 = as_type<float>((raw[_1510][0].z & 15u) | 1258291200u) - 8388616.0;
                    float _1818 = as_type<float>(((raw[_1510][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1823 = as_type<float>(((raw[_1510][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1828 = as_type<float>(((raw[_1510][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1838 = raw[_1510][0].z >> uint(4);
                    float _1842 = as_type<float>((_1838 & 15u) | 1258291200u) - 8388616.0;
                    float _1847 = as_type<float>(((_1838 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1852 = as_type<float>(((_1838 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1857 = as_type<float>(((_1838 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    float _1875 = as_type<float>((raw[_1510][0].w & 15u) | 1258291200u) - 8388616.0;
                    float _1880 = as_type<float>(((raw[_1510][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1885 = as_type<float>(((raw[_1510][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1890 = as_type<float>(((raw[_1510][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1900 = raw[_1510][0].w >> uint(4);
                    float _1904 = as_type<float>((_1900 & 15u) | 1258291200u) - 8388616.0;
                    float _1909 = as_type<float>(((_1900 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                    float _1914 = as_type<float>(((_1900 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                    float _1919 = as_type<float>(((_1900 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                    uint _1184 = pair[_1510] & 65535u;
                    uint _1199 = _1184 & 32767u;
                    uint _1201 = _1199 << uint(13);
                    float _1216 = (_1199 < 1024u) ? (as_type<float>(947912704u | _1201) - 6.103515625e-05) : as_type<float>(_1201 + ((_1199 < 31744u) ? 939524096u : 1879048192u));
                    float _1515;
                    if ((_1184 & 32768u) != 0u)
                    {
                        _1515 = -_1216;
                    }
                    else
                    {
                        _1515 = _1216;
                    }
                    uint _1188 = pair[_1510] >> uint(16);
                    uint _1235 = _1188 & 32767u;
                    uint _1237 = _1235 << uint(13);
                    float _1252 = (_1235 < 1024u) ? (as_type<float>(947912704u | _1237) - 6.103515625e-05) : as_type<float>(_1237 + ((_1235 < 31744u) ? 939524096u : 1879048192u));
                    float _1516;
                    if ((_1188 & 32768u) != 0u)
                    {
                        _1516 = -_1252;
                    }
                    else
                    {
                        _1516 = _1252;
                    }
                    for (uint _1517 = 0u; _1517 < TOKENS; _1517 += 4u)
                    {
                        if ((_1517 != 0u) && (_1517 >= _678))
                        {
                            continue;
                        }
                        for (uint _1518 = _1517; _1518 < (_1517 + 4u); _1518++)
                        {
                            if (_1518 >= TOKENS)
                            {
                                continue;
                            }
                            uint _1272 = ((_792 >> uint(3)) * 8u) + (((_792 >> uint(2)) & 1u) * 2u);
                            uint _877 = x_at[_1518] + _1272;
                            uint _1945 = x_at[_1518] + (_1272 + 1u);
                            uint _1969 = x_at[_1518] + (_1272 + 4u);
                            uint _1993 = x_at[_1518] + (_1272 + 5u);
                            uint _908 = _1518 * 2u;
                            acc[_908] = fma(_1515, fma(_1790, _868.x[_1993].w, fma(_1785, _868.x[_1993].z, fma(_1780, _868.x[_1993].y, fma(_1775, _868.x[_1993].x, fma(_1179, _868.x[_1969].w, fma(_1171, _868.x[_1969].z, fma(_1163, _868.x[_1969].y, fma(_1155, _868.x[_1969].x, fma(_1761, _868.x[_1945].w, fma(_1756, _868.x[_1945].z, fma(_1751, _868.x[_1945].y, fma(_1746, _868.x[_1945].x, fma(_1121, _868.x[_877].w, fma(_1113, _868.x[_877].z, fma(_1105, _868.x[_877].y, spvFMul(_1097, _868.x[_877].x)))))))))))))))), acc[_908]);
                            uint _2216 = _908 + 1u;
                            acc[_2216] = fma(_1516, fma(_1919, _868.x[_1993].w, fma(_1914, _868.x[_1993].z, fma(_1909, _868.x[_1993].y, fma(_1904, _868.x[_1993].x, fma(_1857, _868.x[_1969].w, fma(_1852, _868.x[_1969].z, fma(_1847, _868.x[_1969].y, fma(_1842, _868.x[_1969].x, fma(_1890, _868.x[_1945].w, fma(_1885, _868.x[_1945].z, fma(_1880, _868.x[_1945].y, fma(_1875, _868.x[_1945].x, fma(_1828, _868.x[_877].w, fma(_1823, _868.x[_877].z, fma(_1818, _868.x[_877].y, _1813 * _868.x[_877].x))))))))))))))), acc[_2216]);
                        }
                    }
                }
                _1500 += _932;
                continue;
            }
            else
            {
                break;
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1501 = 0u; _1501 < _414; )
        {
            partial[(_1501 * THREADS) + gl_LocalInvocationID.x] = param[_1501];
            _1501++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1502 = gl_LocalInvocationID.x; _1502 < _443; _1502 += THREADS)
        {
            uint _1422 = (((_1502 / 32u) * THREADS) + ((_1502 / 8u) % 4u)) + (4u * (_1502 % 8u));
            float _1508;
            _1508 = partial[_1422];
            for (uint _1506 = 32u; _1506 < THREADS; )
            {
                _1508 = spvFAdd(_1508, partial[_1422 + _1506]);
                _1506 += 32u;
                continue;
            }
            chunk_sums[_1502] = _1508;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_614)
        {
            break;
        }
        uint _947 = gl_LocalInvocationID.x % 8u;
        uint _1463 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_947 % 2u)) * 4u) + (_947 / 2u)) * 8u;
        float _952 = spvFMul((((((spvFAdd(chunk_sums[_1463], chunk_sums[_1463 + 1u]) + chunk_sums[_1463 + 2u]) + chunk_sums[_1463 + 3u]) + chunk_sums[_1463 + 4u]) + chunk_sums[_1463 + 5u]) + chunk_sums[_1463 + 6u]) + chunk_sums[_1463 + 7u], spvFMul(p.scale, 1.0));
        float _1505;
        if ((p.flags & 1u) != 0u)
        {
            _1505 = spvFAdd(_952, _962.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _580]);
        }
        else
        {
            _1505 = _952;
        }
        _627.y[_598] = (_585 < _1497) ? 0.0 : _1505;
        break;
    } while(false);
}


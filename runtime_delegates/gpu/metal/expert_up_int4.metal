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
constant uint _521 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _524 = (THREADS * TOKENS);
constant uint _525 = (_524 * 2u);
constant uint _550 = (64u * TOKENS);
constant uint _585 = (64u * TOKENS);

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

constant bool _644 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Scores
{
    float scores[1];
};

constant bool _786 = (TOKENS == 1u);
constant uint _859 = (TOKENS * 2u);
constant bool _891 = (TOKENS >= 4u);
constant bool _892 = (_891 && true);
constant int _893 = _892 ? 2 : 4;
constant uint _894 = (uint(_893) + 0u);
constant bool _950 = (TOKENS >= 4u);
constant bool _951 = (_950 && true);
constant int _952 = _951 ? 2 : 4;
constant uint _953 = (uint(_952) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1109 = (TOKENS >= 4u);
constant bool _1110 = (_1109 && true);
constant int _1111 = _1110 ? 2 : 4;
constant uint _1112 = (uint(_1111) + 0u);
constant uint _1113 = (_1112 * THREADS);

struct Y
{
    float y[1];
};

constant bool _1183 = (TOKENS > 1u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1189 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1189, 1u, 1u);

kernel void expert_up_int4(constant Push& p [[buffer(0)]], const device Weights& _208 [[buffer(1)]], const device X& _1025 [[buffer(2)]], device Y& _1165 [[buffer(3)]], const device Scores& _681 [[buffer(4)]], const device Step& _652 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_525];
    threadgroup float chunk_sums[_585];
    do
    {
        uint _642 = p.first_expert + gl_WorkGroupID.y;
        uint _1790;
        if (_644)
        {
            _1790 = 1u;
        }
        else
        {
            _1790 = _652.step_[0];
        }
        uint2 mask = uint2(0u);
        for (uint _1791 = 0u; _1791 < _1790; _1791 += TOKENS)
        {
            for (uint _1875 = 0u; _1875 < TOKENS; _1875++)
            {
                uint _684 = _1791 + _1875;
                if ((_684 < _1790) && (_681.scores[(_684 * p.score_stride) + _642] > 0.0))
                {
                    uint _706 = _684 / 32u;
                    mask[_706] |= (1u << (_684 % 32u));
                }
            }
        }
        uint _734 = (p.first + (gl_WorkGroupID.y * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
        uint _741 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _750 = uint(int(popcount(mask.x)) + int(popcount(mask.y)));
        if (_750 == 0u)
        {
            break;
        }
        uint _1182;
        uint token[8];
        uint x_at[8];
        float acc[16];
        uint4 raw[4][1];
        uint pair[4];
        for (uint _1792 = _750; _1792 != 0u; _1792 = _1182)
        {
            uint _777 = min(_1792, TOKENS);
            uint _1871;
            for (uint _1793 = 0u, _1872 = 0u; _1793 < TOKENS; _1872 = _1871, _1793++)
            {
                if (_786)
                {
                    mask.x = 0u;
                    _1871 = _1872;
                }
                else
                {
                    uint _1873;
                    if (mask.x != 0u)
                    {
                        uint _797 = mask.x;
                        uint _800 = mask.x;
                        mask.x &= (mask.x - 1u);
                        _1873 = uint(int(popcount((~_797) & (_800 - 1u))));
                    }
                    else
                    {
                        uint _1874;
                        if (mask.y != 0u)
                        {
                            uint _820 = mask.y;
                            uint _823 = mask.y;
                            mask.y &= (mask.y - 1u);
                            _1874 = uint(32 + int(popcount((~_820) & (_823 - 1u))));
                        }
                        else
                        {
                            _1874 = _1872;
                        }
                        _1873 = _1874;
                    }
                    _1871 = _1873;
                }
                token[_1793] = _1871;
                x_at[_1793] = _1871 * p.x_stride;
            }
            for (uint _1794 = 0u; _1794 < _859; )
            {
                acc[_1794] = 0.0;
                _1794++;
                continue;
            }
            uint _1207 = ((p.cols + 31u) / 32u) * 8u;
            uint _1795;
            _1795 = gl_LocalInvocationID.x;
            bool _881;
            for (;;)
            {
                _881 = _1795 < _1207;
                if (_881)
                {
                    bool _895 = 0u < _894;
                    bool _904;
                    if (_895)
                    {
                        _904 = _881;
                    }
                    else
                    {
                        _904 = _895;
                    }
                    if (_904)
                    {
                        uint4 _1780[1] = { _208.weights[_734 + _1795] };
                        spvArrayCopyFromStackToStack1(raw[0u], _1780);
                        pair[0u] = ((device uint*)&_208.weights[(_734 + _1207) + (_1795 >> uint(3))])[_1795 & 3u];
                    }
                    bool _1929 = 1u < _894;
                    bool _1935;
                    if (_1929)
                    {
                        _1935 = (_1795 + THREADS) < _1207;
                    }
                    else
                    {
                        _1935 = _1929;
                    }
                    if (_1935)
                    {
                        uint _1938 = _1795 + THREADS;
                        uint4 _1948[1] = { _208.weights[_734 + _1938] };
                        spvArrayCopyFromStackToStack1(raw[1u], _1948);
                        pair[1u] = ((device uint*)&_208.weights[(_734 + _1207) + (_1938 >> uint(3))])[_1938 & 3u];
                    }
                    bool _1959 = 2u < _894;
                    bool _1965;
                    if (_1959)
                    {
                        _1965 = (_1795 + (2u * THREADS)) < _1207;
                    }
                    else
                    {
                        _1965 = _1959;
                    }
                    if (_1965)
                    {
                        uint _1968 = _1795 + (2u * THREADS);
                        uint4 _1978[1] = { _208.weights[_734 + _1968] };
                        spvArrayCopyFromStackToStack1(raw[2u], _1978);
                        pair[2u] = ((device uint*)&_208.weights[(_734 + _1207) + (_1968 >> uint(3))])[_1968 & 3u];
                    }
                    bool _1989 = 3u < _894;
                    bool _1995;
                    if (_1989)
                    {
                        _1995 = (_1795 + (3u * THREADS)) < _1207;
                    }
                    else
                    {
                        _1995 = _1989;
                    }
                    if (_1995)
                    {
                        uint _1998 = _1795 + (3u * THREADS);
                        uint4 _2008[1] = { _208.weights[_734 + _1998] };
                        spvArrayCopyFromStackToStack1(raw[3u], _2008);
                        pair[3u] = ((device uint*)&_208.weights[(_734 + _1207) + (_1998 >> uint(3))])[_1998 & 3u];
                    }
                    for (uint _1822 = 0u; _1822 < 4u; _1822++)
                    {
                        uint _948 = _1795 + (_1822 * THREADS);
                        if ((_1822 >= _953) || (_948 >= _1207))
                        {
                            continue;
                        }
                        float _1307 = as_type<float>((raw[_1822][0].x & 15u) | 1258291200u) - 8388616.0;
                        float _1315 = as_type<float>(((raw[_1822][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _1323 = as_type<float>(((raw[_1822][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _1331 = as_type<float>(((raw[_1822][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _1263 = raw[_1822][0].x >> uint(4);
                        float _1365 = as_type<float>((_1263 & 15u) | 1258291200u) - 8388616.0;
                        float _1373 = as_type<float>(((_1263 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _1381 = as_type<float>(((_1263 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _1389 = as_type<float>(((_1263 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _2028 = as_type<float>((raw[_1822][0].y & 15u) | 1258291200u) - 8388616.0;
                        float _2033 = as_type<float>(((raw[_1822][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2038 = as_type<float>(((raw[_1822][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2043 = as_type<float>(((raw[_1822][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _2053 = raw[_1822][0].y >> uint(4);
                        float _2057 = as_type<float>((_2053 & 15u) | 1258291200u) - 8388616.0;
                        float _2062 = as_type<float>(((_2053 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2067 = as_type<float>(((_2053 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2072 = as_type<float>(((_2053 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _2095 = as_type<float>((raw[_1822][0].z & 15u) | 1258291200u) - 8388616.0;
                        float _2100 = as_type<float>(((raw[_1822][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2105 = as_type<float>(((raw[_1822][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2110 = as_type<float>(((raw[_1822][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _2120 = raw[_1822][0].z >> uint(4);
                        float _2124 = as_type<float>((_2120 & 15u) | 1258291200u) - 8388616.0;
                        float _2129 = as_type<float>(((_2120 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2134 = as_type<float>(((_2120 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2139 = as_type<float>(((_2120 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _2157 = as_type<float>((raw[_1822][0].w & 15u) | 1258291200u) - 8388616.0;
                        float _2162 = as_type<float>(((raw[_1822][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2167 = as_type<float>(((raw[_1822][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2172 = as_type<float>(((raw[_1822][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _2182 = raw[_1822][0].w >> uint(4);
                        float _2186 = as_type<float>((_2182 & 15u) | 1258291200u) - 8388616.0;
                        float _2191 = as_type<float>(((_2182 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2196 = as_type<float>(((_2182 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2201 = as_type<float>(((_2182 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _1394 = pair[_1822] & 65535u;
                        uint _1409 = _1394 & 32767u;
                        uint _1411 = _1409 << uint(13);
                        float _1426 = (_1409 < 1024u) ? (as_type<float>(947912704u | _1411) - 6.103515625e-05) : as_type<float>(_1411 + ((_1409 < 31744u) ? 939524096u : 1879048192u));
                        float _1827;
                        if ((_1394 & 32768u) != 0u)
                        {
                            _1827 = -_1426;
                        }
                        else
                        {
                            _1827 = _1426;
                        }
                        uint _1398 = pair[_1822] >> uint(16);
                        uint _1445 = _1398 & 32767u;
                        uint _1447 = _1445 << uint(13);
                        float _1462 = (_1445 < 1024u) ? (as_type<float>(947912704u | _1447) - 6.103515625e-05) : as_type<float>(_1447 + ((_1445 < 31744u) ? 939524096u : 1879048192u));
                        float _1828;
                        if ((_1398 & 32768u) != 0u)
                        {
                            _1828 = -_1462;
                        }
                        else
                        {
                            _1828 = _1462;
                        }
                        for (uint _1829 = 0u; _1829 < TOKENS; _1829 += 4u)
                        {
                            if ((_1829 != 0u) && (_1829 >= _1792))
                            {
                                continue;
                            }
                            for (uint _1836 = _1829; _1836 < (_1829 + 4u); _1836++)
                            {
                                if (_1836 >= TOKENS)
                                {
                                    continue;
                                }
                                uint _1482 = ((_948 >> uint(3)) * 8u) + (((_948 >> uint(2)) & 1u) * 2u);
                                uint _1034 = x_at[_1836] + _1482;
                                uint _2227 = x_at[_1836] + (_1482 + 1u);
                                uint _2251 = x_at[_1836] + (_1482 + 4u);
                                uint _2275 = x_at[_1836] + (_1482 + 5u);
                                uint _1077 = _1836 * 2u;
                                acc[_1077] = fma(_1827, fma(_2072, _1025.x[_2275].w, fma(_2067, _1025.x[_2275].z, fma(_2062, _1025.x[_2275].y, fma(_2057, _1025.x[_2275].x, fma(_1389, _1025.x[_2251].w, fma(_1381, _1025.x[_2251].z, fma(_1373, _1025.x[_2251].y, fma(_1365, _1025.x[_2251].x, fma(_2043, _1025.x[_2227].w, fma(_2038, _1025.x[_2227].z, fma(_2033, _1025.x[_2227].y, fma(_2028, _1025.x[_2227].x, fma(_1331, _1025.x[_1034].w, fma(_1323, _1025.x[_1034].z, fma(_1315, _1025.x[_1034].y, spvFMul(_1307, _1025.x[_1034].x)))))))))))))))), acc[_1077]);
                                uint _2498 = _1077 + 1u;
                                acc[_2498] = fma(_1828, fma(_2201, _1025.x[_2275].w, fma(_2196, _1025.x[_2275].z, fma(_2191, _1025.x[_2275].y, fma(_2186, _1025.x[_2275].x, fma(_2139, _1025.x[_2251].w, fma(_2134, _1025.x[_2251].z, fma(_2129, _1025.x[_2251].y, fma(_2124, _1025.x[_2251].x, fma(_2172, _1025.x[_2227].w, fma(_2167, _1025.x[_2227].z, fma(_2162, _1025.x[_2227].y, fma(_2157, _1025.x[_2227].x, fma(_2110, _1025.x[_1034].w, fma(_2105, _1025.x[_1034].z, fma(_2100, _1025.x[_1034].y, _2095 * _1025.x[_1034].x))))))))))))))), acc[_2498]);
                            }
                        }
                    }
                    _1795 += _1113;
                    continue;
                }
                else
                {
                    break;
                }
            }
            float param[16];
            spvArrayCopyFromStackToStack1(param, acc);
            for (uint _1796 = 0u; _1796 < _521; )
            {
                partial[(_1796 * THREADS) + gl_LocalInvocationID.x] = param[_1796];
                _1796++;
                continue;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint _1797 = gl_LocalInvocationID.x; _1797 < _550; _1797 += THREADS)
            {
                uint _1641 = (((_1797 / 32u) * THREADS) + ((_1797 / 8u) % 4u)) + (4u * (_1797 % 8u));
                float _1820;
                _1820 = partial[_1641];
                for (uint _1818 = 32u; _1818 < THREADS; )
                {
                    _1820 = spvFAdd(_1820, partial[_1641 + _1818]);
                    _1818 += 32u;
                    continue;
                }
                chunk_sums[_1797] = _1820;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            uint _1803;
            _1803 = 0u;
            uint _1879;
            for (uint _1798 = 0u; _1798 < TOKENS; _1803 = _1879, _1798++)
            {
                if ((gl_LocalInvocationID.x / 8u) == _1798)
                {
                    _1879 = token[_1798];
                }
                else
                {
                    _1879 = _1803;
                }
            }
            bool _1142 = gl_LocalInvocationID.x < (8u * _777);
            bool _1149;
            if (_1142)
            {
                _1149 = _741 < p.rows;
            }
            else
            {
                _1149 = _1142;
            }
            if (_1149)
            {
                uint _1156 = gl_LocalInvocationID.x % 8u;
                uint _1682 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1156 % 2u)) * 4u) + (_1156 / 2u)) * 8u;
                float _1161 = spvFMul((((((spvFAdd(chunk_sums[_1682], chunk_sums[_1682 + 1u]) + chunk_sums[_1682 + 2u]) + chunk_sums[_1682 + 3u]) + chunk_sums[_1682 + 4u]) + chunk_sums[_1682 + 5u]) + chunk_sums[_1682 + 6u]) + chunk_sums[_1682 + 7u], 1.0);
                float _1710 = -abs(_1161);
                float _1804;
                do
                {
                    if (_1710 < (-87.0))
                    {
                        _1804 = 0.0;
                        break;
                    }
                    float _1739 = floor(fma(_1710, 1.44269502162933349609375, 0.5));
                    float _1745 = fma(_1739, 0.00021219444170128554105758666992188, fma(_1739, -0.693359375, _1710));
                    _1804 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _1745, 0.00139819993637502193450927734375), _1745, 0.008333452045917510986328125), _1745, 0.0416657961905002593994140625), _1745, 0.1666666567325592041015625), _1745, 0.5), _1745), _1745, _1745), 1.0) * as_type<float>(uint(int(_1739) + 127) << uint(23));
                    break;
                } while(false);
                float _1805;
                if (_1161 < 0.0)
                {
                    _1805 = _1161 * _1804;
                }
                else
                {
                    _1805 = _1161;
                }
                _1165.y[(((_642 * 64u) + _1803) * p.y_stride) + _741] = _1805 / (1.0 + _1804);
            }
            _1182 = _1792 - _777;
            if (_1183 && (_1182 != 0u))
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
        }
        break;
    } while(false);
}

